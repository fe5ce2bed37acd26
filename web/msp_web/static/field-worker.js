// Keeps the technician's page and its files on the phone. Acts are not kept here but in the page's own store, which
// sends them in order; see field-store.js.
"use strict";

const KEPT = "field-1";
const PAGE = "/field/", DAY = "/field/today.json";

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const kept = await caches.open(KEPT);
    const page = await fetch(PAGE, { credentials: "same-origin" });
    if (page.ok && !page.redirected) {
      const text = await page.clone().text();
      const files = [...text.matchAll(/(?:src|href)="(\/static\/[^"]+)"/g)].map((found) => found[1].replaceAll("&amp;", "&").split("#")[0]);
      await kept.put(PAGE, page);
      await Promise.all([...new Set(files)].map((file) => kept.add(file)));
    }
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== KEPT) await caches.delete(name);
    await self.clients.claim();
  })());
});

async function newest(request, key) {
  const kept = await caches.open(KEPT);
  try {
    const answer = await fetch(request);
    if (answer.ok && !answer.redirected) await kept.put(key, answer.clone());
    return answer;
  } catch {
    return (await kept.match(key)) ?? Response.error();
  }
}

async function file(request) {
  const kept = await caches.open(KEPT);
  const found = await kept.match(request);
  if (found) return found; // its address changes with its content
  const answer = await fetch(request);
  if (answer.ok) await kept.put(request, answer.clone());
  return answer;
}

self.addEventListener("fetch", (event) => {
  const address = new URL(event.request.url);
  if (event.request.method !== "GET" || address.origin !== location.origin) return;
  if (address.pathname === PAGE || address.pathname === DAY) event.respondWith(newest(event.request, address.pathname));
  else if (address.pathname.startsWith("/static/")) event.respondWith(file(event.request));
});
