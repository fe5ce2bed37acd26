// The terminal writes its sizes and colours into <style> elements and style attributes. The policy of our pages allows
// neither, because a page that may carry no style of its own cannot be given a foreign one. Both become style objects.
"use strict";

(() => {
const create = document.createElement.bind(document);
document.createElement = (name, options) => {
  if (String(name).toLowerCase() !== "style") return create(name, options);
  const element = create("template"); // stands in the page where the <style> would
  const sheet = new CSSStyleSheet();
  let text = "";
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  const written = { get: () => text, set: (value) => { text = String(value); sheet.replaceSync(text); } };
  Object.defineProperties(element, { textContent: written, innerText: written, sheet: { get: () => sheet } });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
};
const set = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style" && this.style) this.style.cssText = value;
  else set.call(this, name, value);
};
})();
