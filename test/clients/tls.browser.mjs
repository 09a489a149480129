// pusher-js in Chromium over wss. The Go test that starts this says where the server is
// and which key its certificate has; Chromium trusts that key and no other.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import Pusher from 'pusher';

const { REVERB_TLS_PORT: port, REVERB_TLS_SPKI: spki } = process.env;
const library = fileURLToPath(new URL('../node_modules/pusher-js/dist/web/pusher.min.js', import.meta.url));

let pages, browser;
before(async () => {
  pages = createServer((req, res) => {
    if (req.url === '/pusher.js') return createReadStream(library).pipe(res.setHeader('Content-Type', 'text/javascript'));
    res.setHeader('Content-Type', 'text/html');
    res.end('<!doctype html><script src="/pusher.js"></script>');
  });
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--host-resolver-rules=MAP ws.test 127.0.0.1', `--ignore-certificate-errors-spki-list=${spki}`],
  });
});
after(async () => { await browser?.close(); pages.closeAllConnections(); pages.close(); });

test('wss', async () => {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  await page.evaluate((port) => {
    window.got = [];
    window.client = new Pusher('app-key', { wsHost: 'ws.test', wssPort: Number(port), forceTLS: true, enabledTransports: ['ws', 'wss'], cluster: '' });
    client.subscribe('news').bind_global((event, data) => got.push([event, data]));
  }, port);
  await page.waitForFunction("got.some((g) => g[0] === 'pusher:subscription_succeeded')", { timeout: 20_000, polling: 50 });
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // this process does not know the authority; Chromium is the test
  const back = new Pusher({ appId: 'app-id', key: 'app-key', secret: 'app-secret', host: '127.0.0.1', port, useTLS: true });
  await back.trigger('news', 'event', { over: 'tls' });
  await page.waitForFunction("got.some((g) => g[0] === 'event' && g[1].over === 'tls')", { timeout: 20_000, polling: 50 });
  assert.equal(await page.evaluate("client.connection.state"), 'connected');
});
