// Verifies webhooks with the server library for Node. On standard input come the requests, as JSON.
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import Pusher from 'pusher';

let events = 0;
const requests = JSON.parse(readFileSync(0, 'utf8'));
for (const { app, headers, body } of requests) {
  const library = new Pusher({ appId: app, key: 'key-' + app, secret: 'secret-' + app, host: 'none' });
  const hook = library.webhook({ headers, rawBody: body });
  assert.ok(hook.isValid(), body);
  assert.ok(Math.abs(hook.getTime() - Date.now()) < 300_000, 'time_ms is not fresh');
  for (const e of hook.getEvents()) {
    assert.equal(typeof e.channel, 'string');
    if (e.name === 'client_event') assert.equal(typeof e.data, 'string');
    events++;
  }
}
console.log(`${requests.length} requests, ${events} events`);
