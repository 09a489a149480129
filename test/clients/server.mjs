// What the tests of the clients share: the server, an endpoint that signs, waiting.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { createRequire } from 'node:module';
import Pusher from 'pusher';
import PusherJS from 'pusher-js';

const require = createRequire(import.meta.url);
export const nacl = require('tweetnacl');

const program = process.env.REVERB_BINARY;
if (!program) throw new Error('REVERB_BINARY must name the program under test');

// oddPort finds a free odd port: the kernel gives even ones to outgoing connections,
// so that an odd one is still free when a server comes back to it.
async function oddPort() {
  for (;;) {
    const port = await new Promise((resolve, reject) => {
      const s = createSocket().once('error', reject);
      s.listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => resolve(port)); });
    });
    const odd = port | 1;
    const free = await new Promise((resolve) => {
      const s = createSocket().once('error', () => resolve(false));
      s.listen(odd, '127.0.0.1', () => s.close(() => resolve(true)));
    });
    if (free) return odd;
  }
}

export class Server {
  static async start(env = {}) {
    const s = new Server();
    s.port = await oddPort();
    s.env = env;
    await s.run();
    return s;
  }

  async run() {
    this.process = spawn(program, ['start'], {
      env: this.variables(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.ended = new Promise((resolve) => this.process.once('exit', (code) => resolve(code)));
    let log = '';
    await new Promise((resolve, reject) => {
      this.process.stderr.on('data', (chunk) => { log += chunk; if (log.includes('listening on ')) resolve(); });
      this.process.once('exit', () => reject(new Error(`the server does not start:\n${log}`)));
    });
  }

  variables() {
    return {
      REVERB_ENV_FILE: '/dev/null', REVERB_SERVER_HOST: '127.0.0.1', REVERB_SERVER_PORT: String(this.port), REVERB_SHUTDOWN_GRACE: '0',
      REVERB_APP_ID: 'app-id', REVERB_APP_KEY: 'app-key', REVERB_APP_SECRET: 'app-secret', ...this.env,
    };
  }

  async stop() { this.process.kill('SIGTERM'); return this.ended; }

  // library is the server library that a back end uses.
  library(options = {}) {
    return new Pusher({
      appId: 'app-id', key: 'app-key', secret: 'app-secret', host: '127.0.0.1', port: String(this.port), useTLS: false,
      encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64'), ...options,
    });
  }
}

// authorizer signs subscriptions as Laravel's /broadcasting/auth does, and sign-ins as its
// /broadcasting/user-auth does. It refuses channels whose name ends in -refused.
export async function authorizer(library) {
  let users = 0;
  const server = createServer((req, res) => {
    let body = '';
    req.on('data', (chunk) => { body += chunk; });
    req.on('end', () => {
      res.setHeader('Access-Control-Allow-Origin', '*');
      res.setHeader('Access-Control-Allow-Headers', '*');
      const form = new URLSearchParams(body);
      const channel = form.get('channel_name');
      if (req.method === 'OPTIONS') return res.end();
      if (channel?.endsWith('-refused')) return res.writeHead(403).end('{}');
      const user = decodeURIComponent(req.headers['x-user'] ?? String(++users));
      if (channel === null) return res.end(JSON.stringify(library.authenticateUser(form.get('socket_id'), { id: user })));
      const member = channel.startsWith('presence-') ? { user_id: user, user_info: { name: `User ${user}` } } : undefined;
      res.end(JSON.stringify(library.authorizeChannel(form.get('socket_id'), channel, member)));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/auth`, close: () => server.close() };
}

// clients makes pusher-js clients and disconnects them all.
export class Clients {
  constructor(server, auth) { Object.assign(this, { server, auth, all: [] }); }

  make(user, key = 'app-key', options = {}) {
    const client = new PusherJS(key, {
      wsHost: '127.0.0.1', wsPort: this.server.port, forceTLS: false, enabledTransports: ['ws'], disableStats: true, cluster: '', nacl,
      channelAuthorization: { endpoint: this.auth?.url, headers: user ? { 'X-User': encodeURIComponent(user) } : {} },
      ...options,
    });
    this.all.push(client);
    return client;
  }

  close() { for (const c of this.all) c.disconnect(); }
}

// event waits for one event of anything that has bind.
export function event(target, name, limit = 10_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => { target.unbind(name, done); reject(new Error(`${name} has not come`)); }, limit);
    function done(data, meta) { clearTimeout(timer); target.unbind(name, done); resolve(meta === undefined ? data : Object.assign([data], { meta })[0]); }
    target.bind(name, done);
  });
}

// told resolves when the last number of subscribers that a channel was told is this.
export function told(channel, number, limit = 10_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`told ${channel.subscriptionCount}, want ${number}`)), limit);
    function look() { if (channel.subscriptionCount === number) { clearTimeout(timer); channel.unbind('pusher:subscription_count', look); resolve(); } }
    channel.bind('pusher:subscription_count', look);
    look();
  });
}

export const subscribed = (channel) => (channel.subscribed ? Promise.resolve() : event(channel, 'pusher:subscription_succeeded'));
