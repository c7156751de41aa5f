// Requests to this server, and the outbox: answers stay in this browser until the server has them on its disk.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function request(method, path, { query = {}, body, raw } = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined));
  const options = { method };
  if (raw !== undefined) options.body = raw;
  else if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  let response;
  try {
    response = await fetch(asked.size ? `${path}?${asked}` : path, options);
  } catch {
    throw new ApiError("The app does not answer. Is it still running?", 0);
  }
  const text = await response.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* a server that died halfway */ }
  if (!response.ok || value === null) throw new ApiError(value?.error ?? `The app answered ${response.status}.`, response.status);
  return value;
}

export const get = (path, query) => request("GET", path, { query });
export const post = (path, body) => request("POST", path, { body });
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

const KEY = "pamela.outbox";

// Each answer is sent until the server says "saved"; ids made here let it store each one once. One tab's copy of the list
// never overwrites another's: every answer has a key of its own.
export class Outbox {
  constructor(onChange) {
    this.onChange = onChange;
    this.problem = null;
    this.sending = false;
    this.owner = ""; // whose answers: another visitor's wait until they sign in again
  }

  keys() {
    return Object.keys(localStorage).filter((key) => key.startsWith(`${KEY}/${this.owner}`)).sort();
  }

  get waiting() {
    return this.keys().length;
  }

  add(path, body) {
    const key = `${KEY}/${this.owner}${Date.now().toString().padStart(15, "0")}/${body.id}`;
    try { localStorage.setItem(key, JSON.stringify({ path, body })); } catch { this.problem = "This browser keeps nothing: do not close the page before it says saved."; }
    const sent = this.flush();
    this.onChange(this);
    return sent;
  }

  has(id) {
    return this.keys().some((key) => key.endsWith(`/${id}`));
  }

  // Sends what waits, in order. A refusal of one answer (422, 404, 409) drops it and is shown; anything else is tried again.
  async flush() {
    if (this.sending) return this.sending;
    this.sending = this.send().finally(() => { this.sending = false; });
    return this.sending;
  }

  async send() {
    let key;
    while ((key = this.keys()[0])) {
      const { path, body } = JSON.parse(localStorage.getItem(key) ?? "null") ?? {};
      try {
        if (path) await post(path, body);
        localStorage.removeItem(key);
        this.problem = null;
      } catch (error) {
        this.problem = error.message;
        if ([404, 409, 422].includes(error.status)) localStorage.removeItem(key);
        else {
          this.onChange(this);
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.flush(), 1500);
          return;
        }
      }
      this.onChange(this);
    }
  }
}
