// Nothing missed: pusher-js and Laravel Echo with web/resume.js get every event once and in order
// while their connections are cut at random moments by a proxy, by themselves, and by the server.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import Echo from 'laravel-echo';
import { Server, Clients, authorizer, event, subscribed } from './server.mjs';
import { resume } from '../../web/index.js';
import { Cutter, CUTS, kinds, random } from './cutter.mjs';

const run = promisify(execFile);
const EVENTS = process.env.REVERB_TEST_LONG ? 1000 : 300;

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

test(`${EVENTS} events and ${CUTS} cuts: every event once and in order with resume.js`, async () => {
  const draw = random(Number(process.env.REVERB_TEST_SEED ?? 1));
  const near = new Clients({ port: cutter.port }, auth);
  const gaps = [];
  const clients = ['ann', 'bob', 'cat'].map((user) => near.make(user, 'app-key', quick));
  for (const c of clients.slice(1)) resume(c, { gap: (channel) => gaps.push(channel) });
  resume(new Echo({ broadcaster: 'reverb', key: 'app-key', client: clients[0] }), { gap: (channel) => gaps.push(channel) });
  const plain = near.make('eve', 'app-key', quick);
  const everybody = [...clients, plain];
  const channels = clients.flatMap((c) => kinds.map((name) => follow(c, name)));
  const lossy = kinds.map((name) => follow(plain, name));
  await Promise.all([...channels, ...lossy].map(subscribed));

  const kick = (c) => run(process.env.REVERB_BINARY, ['kick', '--socket', c.connection.socket_id, '--reconnect', '--yes'], { env: server.variables() });
  const cuts = [
    () => cutter.cut(), // the proxy's side
    () => everybody.forEach((c) => c.connection.connection?.transport?.socket?.close()),
    () => Promise.all(everybody.map(kick)),
  ];
  const ids = () => everybody.map((c) => (c.connection.state === 'connected' ? c.connection.socket_id : undefined));
  const back = async (before) => { // everybody is connected anew
    while (ids().some((id, i) => !id || id === before[i])) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  let n = 0;
  const publish = async (until) => {
    for (; n < until; n++) await Promise.all(kinds.map((name) => library.trigger(name, 'event', { n })));
  };
  for (let i = 0; i < CUTS; i++) {
    const [before, next] = [ids(), Math.floor(EVENTS * (i + 1) / (CUTS + 1))];
    await publish(n + draw(next - n));
    await Promise.all([cuts[draw(cuts.length)](), publish(next)]);
    await back(before);
  }
  await publish(EVENTS);
  const until = Date.now() + 20_000;
  while (channels.some((c) => c.got.length < EVENTS) && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
  const all = Array.from({ length: EVENTS }, (_, k) => k);
  for (const c of channels) assert.deepEqual(c.got, all, `${c.name}: not every event once and in order`);
  assert.deepEqual(gaps, []);
  console.log(`without resume.js ${lossy.map((c) => `${c.name} ${new Set(c.got).size}`).join(', ')} of ${EVENTS}`);
  near.close();
});

test('toOthers holds over a cut', async () => {
  const clients = new Clients({ port: cutter.port }, auth);
  const c = clients.make('ann', 'app-key', quick);
  resume(c);
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

test('what is gone is told', async () => {
  const other = await Server.start({ REVERB_RESUME_SECONDS: '60', REVERB_RESUME_EVENTS: '2' });
  const proxy = await new Cutter(other.port).start();
  const clients = new Clients({ port: proxy.port }, auth);
  const gaps = [];
  const c = clients.make('ann', 'app-key', quick);
  resume(c, { gap: (channel) => gaps.push(channel) });
  const [channel, quiet] = [follow(c, 'news'), follow(c, 'quiet')];
  await Promise.all([channel, quiet].map(subscribed));
  proxy.cut();
  for (let n = 0; n < 3; n++) await other.library().trigger('news', 'event', { n });
  await Promise.all([channel, quiet].map((v) => event(v, 'pusher:subscription_succeeded')));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([gaps, channel.got], [['news'], []]);
  clients.close();
  proxy.close();
  await other.stop();
});

test('a server without the feature changes nothing', async () => {
  const other = await Server.start();
  const clients = new Clients(other, auth);
  const c = clients.make('ann', 'app-key', quick);
  resume(c, { gap: () => assert.fail('a gap') });
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
