// The day's routes on a map. Without this script, or without Leaflet, the list beside it says the same.
"use strict";

(() => {
const box = document.getElementById("map");
if (!box || !window.L) return;
const data = JSON.parse(box.dataset.map);
const places = [
  ...data.routes.flatMap((route) => [route.home, ...route.stops.map((stop) => stop.place)]),
  ...data.waiting.map((pin) => pin.place),
  data.depot?.place,
].filter(Boolean);
if (!places.length) return;
box.hidden = false;
box.classList.toggle("no-tiles", !data.tiles);

const map = L.map(box, { zoomSnap: 0.5 });
map.attributionControl.setPrefix(false);
if (data.tiles) L.tileLayer(data.tiles, { maxZoom: 19, attribution: plain(data.credit), referrerPolicy: "origin" }).addTo(map);

function plain(text) { // an attribution is written as HTML; a setting is text
  const node = document.createElement("span");
  node.textContent = text;
  return node.innerHTML;
}

function told(words, place, to) { // what a mark says when it is pressed
  const node = document.createElement("div");
  node.append(Object.assign(document.createElement("p"), { textContent: words }));
  if (to) node.append(Object.assign(document.createElement("a"), { href: to, textContent: data.words.open }));
  return node;
}

function mark(layer, place, label, kind, colour, words, to) {
  const sign = document.createElement("span");
  sign.textContent = label;
  if (colour) sign.style.background = colour;
  const icon = L.divIcon({ className: `map-mark ${kind}`, html: sign, iconSize: [26, 26] });
  L.marker(place, { icon, alt: words, title: words, keyboard: true }).bindPopup(told(words, place, to)).addTo(layer);
}

const layers = data.routes.map((route) => {
  const layer = L.layerGroup().addTo(map);
  const line = [route.home, ...route.stops.map((stop) => stop.place), route.home].filter(Boolean);
  L.polyline(line, { color: route.colour, weight: 3, opacity: 0.75, interactive: false }).addTo(layer);
  if (route.home) mark(layer, route.home, "⌂", "home", route.colour, `${route.name}: ${data.words.home}`);
  for (const stop of route.stops) mark(layer, stop.place, stop.number, "stop", route.colour, `${route.name} ${stop.words}`, stop.to);
  return layer;
});
const loose = L.layerGroup().addTo(map);
for (const pin of data.waiting) mark(loose, pin.place, "!", "waits", "", `${data.words.waiting}: ${pin.words}`, pin.to);
if (data.depot) mark(loose, data.depot.place, "▣", "depot", "", `${data.words.depot}: ${data.depot.words}`);
map.fitBounds(L.latLngBounds(places).pad(0.08), { maxZoom: 14 });

// A route that is folded up in the list leaves the map; the one under the pointer comes to the front.
for (const details of document.querySelectorAll("details[data-tour]")) {
  const layer = layers[Number(details.dataset.tour)];
  details.addEventListener("toggle", () => (details.open ? layer.addTo(map) : layer.remove()));
  details.addEventListener("pointerenter", () => layer.eachLayer((one) => { if (one.setStyle) { one.setStyle({ weight: 6, opacity: 1 }); one.bringToFront(); } }));
  details.addEventListener("pointerleave", () => layer.eachLayer((one) => one.setStyle?.({ weight: 3, opacity: 0.75 })));
}
})();
