// A page in Chromium: every kind of channel, a whisper, a lost connection.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Server, authorizer } from './server.mjs';
import { chromium, wait } from './chromium.mjs';


let server, library, auth, chromes, pages, browser;
before(async () => {
  // The page comes from this origin, so the server must let it in, and only it.
  server = await Server.start({ REVERB_ALLOWED_ORIGINS: '127.0.0.1', REVERB_COMPRESSION: 'true' });
  library = server.library();
  auth = await authorizer(library);
  chromes = await chromium();
  ({ pages, browser } = chromes);
});
after(async () => {
  await chromes?.close();
  auth.close();
  assert.equal(await server.stop(), 0);
});

async function open(user) {
  const page = await browser.newPage();
  page.on('pageerror', (e) => assert.fail(e));
  const query = new URLSearchParams({ port: server.port, auth: auth.url, user });
  await page.goto(`http://127.0.0.1:${pages.address().port}/?${query}`);
  await page.waitForFunction('ready === 5', wait);
  return page;
}

// arrives waits until something has arrived in a page.
const arrives = (page, channel, what, data) =>
  page.waitForFunction((c, w, d) => got.some((g) => g[0] === c && g[1] === w && JSON.stringify(g[2]) === d), wait, channel, what, JSON.stringify(data));

const kinds = ['news', 'private-news', 'private-encrypted-news', 'cache-news', 'presence-news'];

test('two pages', async () => {
  const ann = await open('ann');
  const bob = await open('bob');
  await arrives(ann, 'presence-news', 'joining', { name: 'User bob' });
  await arrives(bob, 'presence-news', 'here', [{ name: 'User ann' }, { name: 'User bob' }]);

  const data = { text: 'héllo 😀 '.repeat(100) };
  for (const kind of kinds) await library.trigger(kind, 'event', data);
  for (const page of [ann, bob]) for (const kind of kinds) await arrives(page, kind, 'event', data);

  await ann.evaluate(() => channels['private-news'].whisper('typing', { name: 'Ann', list: [], object: {} }));
  await arrives(bob, 'private-news', 'whisper', { name: 'Ann', list: [], object: {} });
  assert.equal(await ann.evaluate(() => got.filter((g) => g[1] === 'whisper').length), 0);
  assert.equal(await ann.evaluate(() => got.find((g) => g[1] === 'error')[2].status), 403);

  // The server goes away and comes back: both pages subscribe to everything again.
  assert.equal(await server.stop(), 0);
  for (const page of [ann, bob]) await page.waitForFunction("echo.connectionStatus() !== 'connected'", wait);
  await server.run();
  for (const page of [ann, bob]) await page.waitForFunction('ready >= 10', wait);
  for (const kind of kinds) await library.trigger(kind, 'event', { again: kind });
  for (const page of [ann, bob]) for (const kind of kinds) await arrives(page, kind, 'event', { again: kind });

  await bob.close();
  await arrives(ann, 'presence-news', 'leaving', { name: 'User bob' });
});

test('a page signs in, and gets what is sent to its user', async () => {
  const page = await open('eve');
  await page.evaluate((port, endpoint) => {
    window.signed = new Pusher('app-key', {
      wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], disableStats: true, cluster: '',
      userAuthentication: { endpoint, transport: 'ajax', headers: { 'X-User': 'eve' } },
    });
    window.signed.user.bind('greet', (data) => { window.greeted = data; });
    window.signed.signin();
  }, server.port, auth.url);
  await page.waitForFunction('signed.user.user_data?.id === "eve"', wait);
  await library.sendToUser('eve', 'greet', { n: 1 });
  await page.waitForFunction('window.greeted?.n === 1', wait);
  await page.close();
});
