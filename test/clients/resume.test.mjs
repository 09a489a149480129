// Nothing missed: pusher-js and Laravel Echo with web/resume.js get every event once and in order
// while their connections are cut at random moments by a proxy, by themselves, and by the server.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import Echo from 'laravel-echo';
import { Server, Clients, authorizer, event, subscribed } from './server.mjs';
import '../../web/resume.js';

const run = promisify(execFile);
const EVENTS = Number(process.env.REVERB_TEST_EVENTS ?? 300);
const kinds = ['news', 'private-news', 'private-encrypted-news', 'cache-news', 'presence-news'];

// Cutter is a proxy that cuts what it carries.
class Cutter {
  constructor(to) { Object.assign(this, { to, open: new Set(), cuts: 0 }); }

  async start() {
    this.server = createServer((client) => {
      const far = connect(this.to, '127.0.0.1');
      const pair = () => { client.destroy(); far.destroy(); this.open.delete(pair); };
      this.open.add(pair);
      for (const s of [client, far]) s.on('error', pair).on('close', pair);
      client.pipe(far).pipe(client);
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    return this;
  }

  cut() { for (const pair of [...this.open]) { this.cuts++; pair(); } }
  close() { this.cut(); this.server.close(); }
}

// random draws numbers from a seed.
function random(seed) {
  return (n) => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return Math.floor(seed / 2 ** 32 * n); };
}

let server, library, auth, cutter;
before(async () => {
  server = await Server.start({ REVERB_RESUME_SECONDS: '60', REVERB_RESUME_EVENTS: '1000' });
  library = server.library();
  auth = await authorizer(library);
  cutter = await new Cutter(server.port).start();
});
after(async () => { cutter.close(); auth.close(); assert.equal(await server.stop(), 0); });

// quick lets a client reconnect at once.
const quick = { wsHost: '127.0.0.1', activityTimeout: 5000, pongTimeout: 2000, unavailableTimeout: 3000 };

// follow subscribes to a channel and keeps the numbers that it gets.
function follow(client, name) {
  const channel = client.subscribe(name);
  channel.got = [];
  channel.bind('event', ({ n }) => channel.got.push(n));
  return channel;
}

test('1,000 cuts and clients: every event once and in order with resume.js', async () => {
  const seed = Number(process.env.REVERB_TEST_SEED ?? 1);
  const draw = random(seed);
  const near = new Clients({ port: cutter.port }, auth);
  const direct = new Clients(server, auth);
  const gaps = [];
  const clients = [near.make('ann', 'app-key', quick), near.make('bob', 'app-key', quick), direct.make('cat', 'app-key', quick)];
  for (const c of clients) globalThis.resume(c, { gap: (channel) => gaps.push(channel) });
  const echo = new Echo({ broadcaster: 'reverb', key: 'app-key', client: near.make('dan', 'app-key', quick) });
  globalThis.resume(echo, { gap: (channel) => gaps.push(channel) });
  const plain = near.make('eve', 'app-key', quick);
  const channels = [...clients, echo.connector.pusher].flatMap((c) => kinds.map((name) => follow(c, name)));
  const lossy = kinds.map((name) => follow(plain, name));
  await Promise.all([...channels, ...lossy].map(subscribed));

  const cut = [
    () => cutter.cut(),
    () => { for (const c of [...clients, echo.connector.pusher]) c.connection.connection?.transport?.socket?.close(); },
    async () => {
      const id = clients[draw(clients.length)].connection.socket_id;
      if (id) await run(process.env.REVERB_BINARY, ['kick', '--socket', id, '--reconnect'], { env: { ...server.env, ...env() } }).catch((e) => kicks.push(e));
    },
  ];
  const kicks = [];
  const env = () => ({ REVERB_ENV_FILE: '/dev/null', REVERB_SERVER_HOST: '127.0.0.1', REVERB_SERVER_PORT: String(server.port), REVERB_APP_ID: 'app-id', REVERB_APP_KEY: 'app-key', REVERB_APP_SECRET: 'app-secret' });
  const every = Math.ceil(EVENTS / 50);
  for (let n = 0; n < EVENTS; n++) {
    await Promise.all(kinds.map((name) => library.trigger(name, 'event', { n })));
    if (n % every === draw(every)) await cut[draw(2)]();
  }
  const all = Array.from({ length: EVENTS }, (_, n) => n);
  const until = Date.now() + 20_000;
  while (channels.some((c) => c.got.length < EVENTS) && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  for (const c of channels) assert.deepEqual(c.got, all, `${c.name}: not every event once and in order`);
  assert.deepEqual(gaps, []);
  assert.deepEqual(kicks, []);
  assert.ok(cutter.cuts > 10, `${cutter.cuts} cuts`);
  const had = lossy.map((c) => new Set(c.got).size);
  console.log(`${cutter.cuts} cuts; without resume.js ${had.map((n, i) => `${kinds[i]} ${n}`).join(', ')} of ${EVENTS}`);
  near.close();
  direct.close();
});

test('toOthers holds over a cut', async () => {
  const clients = new Clients({ port: cutter.port }, auth);
  const c = clients.make('ann', 'app-key', quick);
  globalThis.resume(c);
  const channel = follow(c, 'private-own');
  await subscribed(channel);
  const before = c.connection.socket_id;
  await library.trigger('private-own', 'event', { n: 1 });
  await event(channel, 'event').catch(() => {});
  cutter.cut();
  await library.trigger('private-own', 'event', { n: 2 }, { socket_id: before });
  await library.trigger('private-own', 'event', { n: 3 });
  while (channel.got.at(-1) !== 3) await event(channel, 'event');
  assert.deepEqual(channel.got, [1, 3]);
  clients.close();
});

test('a server that has lost the history says so', async () => {
  const other = await Server.start({ REVERB_RESUME_SECONDS: '60' });
  const clients = new Clients(other, auth);
  const gaps = [];
  const c = clients.make('ann', 'app-key', quick);
  globalThis.resume(c, { gap: (channel) => gaps.push(channel) });
  const channel = c.subscribe('news');
  await subscribed(channel);
  await other.stop();
  await other.run();
  await event(channel, 'pusher:subscription_succeeded', 20_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(gaps, ['news']);
  clients.close();
  await other.stop();
});

test('a server without the feature changes nothing', async () => {
  const other = await Server.start();
  const clients = new Clients(other, auth);
  const c = clients.make('ann', 'app-key', quick);
  globalThis.resume(c, { gap: () => assert.fail('a gap') });
  const seen = [];
  c.connection.bind('message', (m) => seen.push(m.event));
  const channel = follow(c, 'news');
  await subscribed(channel);
  await other.library().trigger('news', 'event', { n: 1 });
  await event(channel, 'event').catch(() => {});
  assert.deepEqual(channel.got, [1]);
  clients.close();
  await other.stop();
});
