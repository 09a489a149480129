// Nothing missed, in Chromium: a page takes /resume.js from the server, with its integrity, and its
// pusher-js and Echo get every event once and in order while their connections are cut.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Server, authorizer } from './server.mjs';
import { chromium, wait } from './chromium.mjs';
import { Cutter, CUTS, kinds, random } from './cutter.mjs';

const run = promisify(execFile);
const EVENTS = process.env.REVERB_TEST_LONG ? 1000 : 120;

let server, library, auth, chromes, cutter;
before(async () => {
  // the page comes from another origin
  server = await Server.start({ REVERB_ALLOWED_ORIGINS: '127.0.0.1', REVERB_COMPRESSION: 'true', REVERB_RESUME_SECONDS: '60', REVERB_RESUME_EVENTS: '1000' });
  library = server.library();
  auth = await authorizer(library);
  cutter = await new Cutter(server.port).start();
  chromes = await chromium();
});
after(async () => {
  await chromes?.close();
  cutter.close();
  auth.close();
  assert.equal(await server.stop(), 0);
});

const integrity = `sha384-${createHash('sha384').update(readFileSync(new URL('../../web/resume.js', import.meta.url))).digest('base64')}`;

// open opens a page with the script of the server.
async function open(sum = integrity) {
  const page = await chromes.browser.newPage();
  page.on('pageerror', (e) => assert.fail(e));
  const query = new URLSearchParams({ port: server.port, auth: auth.url, user: 'page' });
  await page.goto(`http://127.0.0.1:${chromes.pages.address().port}/?${query}`);
  page.loaded = await page.evaluate((src, integrity) => new Promise((resolve) => {
    const script = Object.assign(document.createElement('script'), { src, integrity, crossOrigin: 'anonymous' });
    script.onload = () => resolve(typeof resume);
    script.onerror = () => resolve('refused');
    document.head.append(script);
  }), `http://127.0.0.1:${server.port}/resume.js`, sum);
  return page;
}

test(`${EVENTS} events and ${CUTS} cuts in a page: every event once and in order`, async () => {
  const page = await open();
  assert.equal(page.loaded, 'function');
  await page.evaluate((port, endpoint, kinds) => {
    const options = (user) => ({
      wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], disableStats: true, cluster: '', activityTimeout: 5000, pongTimeout: 2000, unavailableTimeout: 3000,
      channelAuthorization: { endpoint, transport: 'ajax', headers: { 'X-User': user } },
    });
    const follow = (list, name, bind) => { list[name] = []; bind(({ n }) => list[name].push(n)); };
    window.gaps = [];
    window.numbers = { bare: {}, echo: {}, plain: {} };
    window.pushers = { bare: new Pusher('app-key', options('bare')), plain: new Pusher('app-key', options('plain')) };
    resume(pushers.bare, { gap: (channel) => gaps.push(channel) });
    for (const who of ['bare', 'plain']) for (const name of kinds) follow(numbers[who], name, (f) => pushers[who].subscribe(name).bind('event', f));
    const other = new (Echo.default ?? Echo)({ broadcaster: 'reverb', key: 'app-key', ...options('echo') });
    resume(other, { gap: (channel) => gaps.push(channel) });
    pushers.echo = other.connector.pusher;
    const channels = [other.channel('news'), other.private('news'), other.encryptedPrivate('news'), other.channel('cache-news'), other.join('news')];
    kinds.forEach((name, i) => follow(numbers.echo, name, (f) => channels[i].listen('.event', f)));
  }, cutter.port, auth.url, kinds);
  const everybody = 'Object.values(pushers)';
  await page.waitForFunction(`${everybody}.every(p => p.allChannels().length === 5 && p.allChannels().every(c => c.subscribed))`, wait);

  const draw = random(Number(process.env.REVERB_TEST_SEED ?? 2));
  const ids = () => page.evaluate(`${everybody}.map(p => p.connection.socket_id)`);
  const cuts = [
    () => cutter.cut(),
    () => page.evaluate(`${everybody}.forEach(p => p.connection.connection?.transport?.socket?.close())`),
    async () => Promise.all((await ids()).map((id) => run(process.env.REVERB_BINARY, ['kick', '--socket', id, '--reconnect', '--yes'], { env: server.variables() }))),
  ];
  let n = 0;
  const publish = async (until) => {
    for (; n < until; n++) await Promise.all(kinds.map((name) => library.trigger(name, 'event', { n })));
  };
  for (let i = 0; i < CUTS; i++) {
    const [was, next] = [await ids(), Math.floor(EVENTS * (i + 1) / (CUTS + 1))];
    await publish(n + draw(next - n));
    await Promise.all([cuts[draw(cuts.length)](), publish(next)]);
    await page.waitForFunction((was) => Object.values(pushers).every((p, i) => p.connection.state === 'connected' && p.connection.socket_id !== was[i]), wait, was);
  }
  await publish(EVENTS);
  await page.waitForFunction((last) => ['bare', 'echo'].every((who) => Object.values(numbers[who]).every((got) => got.at(-1) === last)), wait, EVENTS - 1);
  const all = Array.from({ length: EVENTS }, (_, k) => k);
  const got = await page.evaluate('numbers');
  for (const who of ['bare', 'echo']) for (const name of kinds) assert.deepEqual(got[who][name], all, `${who}, ${name}: not every event once and in order`);
  assert.deepEqual(await page.evaluate('gaps'), []);
  console.log(`without resume.js ${kinds.map((name) => `${name} ${new Set(got.plain[name]).size}`).join(', ')} of ${EVENTS}`);
  await page.close();
});

test('a script that is another one is not run', async () => {
  const page = await open(`sha384-${createHash('sha384').update('other').digest('base64')}`);
  assert.equal(page.loaded, 'refused');
  await page.close();
});
