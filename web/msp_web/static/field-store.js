// What the phone keeps: acts that are not sent yet, in the order in which they were done. Each has an id made here, so
// that an act sent twice counts once.
"use strict";

const store = (() => {
  const opened = new Promise((resolve, reject) => {
    const request = indexedDB.open("field", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("acts", { keyPath: "seq", autoIncrement: true });
      request.result.createObjectStore("day");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  async function on(name, mode, act) {
    const transaction = (await opened).transaction(name, mode, { durability: "strict" });
    const request = act(transaction.objectStore(name));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  function uuid() { // crypto.randomUUID wants HTTPS; the numbers are the same
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  return {
    uuid,
    add: (act) => on("acts", "readwrite", (acts) => acts.add(act)),
    put: (act) => on("acts", "readwrite", (acts) => acts.put(act)),
    remove: (seq) => on("acts", "readwrite", (acts) => acts.delete(seq)),
    all: () => on("acts", "readonly", (acts) => acts.getAll()),
    keepDay: (day) => on("day", "readwrite", (kept) => kept.put(day, "day")),
    day: () => on("day", "readonly", (kept) => kept.get("day")),
  };
})();
