// Pages in Chromium while the server is upgraded: no page sees a state other than connected, and
// each gets every event once and in order. REVERB_PORTS are the port of the server and those of
// proxies before it.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import Pusher from 'pusher';
import { authorizer } from './server.mjs';
import { chromium, wait } from './chromium.mjs';

const ports = process.env.REVERB_PORTS.split(',');
const library = new Pusher({
  appId: 'app-id', key: 'app-key', secret: 'app-secret', host: '127.0.0.1', port: ports[0], useTLS: false,
  encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64'),
});

let auth, chromes, pages, browser;
before(async () => {
  auth = await authorizer(library);
  chromes = await chromium();
  ({ pages, browser } = chromes);
});
after(async () => {
  await chromes?.close();
  auth.close();
});

// open opens a page whose Echo connects to a port, and another pusher-js beside it.
async function open(port, i) {
  const page = await browser.newPage();
  page.on('pageerror', (e) => assert.fail(e));
  const devtools = await page.createCDPSession();
  await devtools.send('Network.enable');
  const compressed = new Promise((resolve) => devtools.on('Network.webSocketHandshakeResponseReceived',
    (e) => resolve(/permessage-deflate/i.test(JSON.stringify(e.response.headers)))));
  const query = new URLSearchParams({ port, auth: auth.url, user: `user${i}` });
  await page.goto(`http://127.0.0.1:${pages.address().port}/?${query}`);
  await page.waitForFunction('ready === 5', wait);
  assert.equal(await compressed, true, 'the connection is not compressed');
  await page.evaluate((port) => {
    window.states = [];
    window.bare = new Pusher('app-key', { wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], disableStats: true, cluster: '' });
    window.bareGot = [];
    window.bare.subscribe('news').bind('event', (d) => window.bareGot.push(d.n));
    window.bare.connection.bind('connected', () => {
      for (const [name, c] of [['bare', window.bare.connection], ['echo', window.echo.connector.pusher.connection]]) {
        c.bind('state_change', (s) => window.states.push(`${name}: ${s.previous} to ${s.current}`));
        c.bind('error', (e) => window.states.push(`${name}: ${JSON.stringify(e)}`));
      }
    });
  }, port);
  await page.waitForFunction('bare.channel("news").subscribed', wait);
  page.ids = await page.evaluate('[echo.socketId(), bare.connection.socket_id]');
  return page;
}

const kinds = ['news', 'private-news', 'private-encrypted-news', 'cache-news', 'presence-news'];

test('pages see nothing of upgrades', async () => {
  const all = [];
  for (const [i, port] of ports.entries()) all.push(await open(port, i));
  const upgrades = Number(process.env.REVERB_UPGRADES);
  let n = 0, over = false;
  const text = 'héllo 😀 '.repeat(50); // enough to be compressed
  const publish = (async () => {
    while (!over) {
      n++;
      for (const kind of kinds) await library.trigger(kind, 'event', { n, text });
      await new Promise((resolve) => setTimeout(resolve, 10)); // or pages that are too slow are closed
    }
  })();
  for (let i = 0; i < upgrades; i++) {
    await promisify(execFile)(process.env.REVERB_BINARY, ['upgrade', '--port', ports[0]], { env: process.env });
    const seen = n;
    for (const page of all) {
      await page.waitForFunction((n) => bareGot.at(-1) > n + 5, wait, seen);
      await page.evaluate((i) => channels['private-news'].whisper('typing', { from: location.search, i }), i);
    }
  }
  over = true;
  await publish;
  for (const [i, page] of all.entries()) {
    await page.waitForFunction((n) => bareGot.at(-1) === n, wait, n);
    const whispers = upgrades * (all.length - 1);
    await page.waitForFunction((n) => got.filter((g) => g[1] === 'whisper').length === n, wait, whispers);
    const want = Array.from({ length: n }, (_, k) => k + 1);
    assert.deepEqual(await page.evaluate('bareGot'), want);
    for (const kind of kinds) {
      await page.waitForFunction((k, n) => got.filter((g) => g[0] === k && g[1] === 'event').length >= n, wait, kind, n);
      const numbers = await page.evaluate((k) => got.filter((g) => g[0] === k && g[1] === 'event').map((g) => g[2].n), kind);
      assert.deepEqual(numbers, want, `${kind} at page ${i}`);
    }
    assert.deepEqual(await page.evaluate('states'), []);
    assert.equal(await page.evaluate('ready'), 5);
    assert.deepEqual(await page.evaluate('[echo.socketId(), bare.connection.socket_id]'), page.ids);
    assert.deepEqual(await page.evaluate("got.filter((g) => g[1] === 'leaving')"), []);
  }
});
