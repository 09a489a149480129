// A page with pusher-js and Echo, and a browser for it.
import { createServer } from 'node:http';
import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';

const files = {
  '/': ['text/html', '../browser/page.html'],
  '/pusher.js': ['text/javascript', '../node_modules/pusher-js/dist/web/pusher-with-encryption.min.js'],
  '/echo.js': ['text/javascript', '../node_modules/laravel-echo/dist/echo.iife.js'],
};

// By clock: a page that is not in front draws no frames.
export const wait = { timeout: 40_000, polling: 50 };

// chromium serves the page, at the port of pages, and starts a browser. close ends both.
export async function chromium() {
  const pages = createServer((req, res) => {
    const file = files[new URL(req.url, 'http://x').pathname];
    if (!file) return res.writeHead(404).end();
    res.setHeader('Content-Type', file[0]);
    createReadStream(fileURLToPath(new URL(file[1], import.meta.url))).pipe(res);
  });
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows'] });
  return {
    pages, browser,
    async close() {
      await browser.close();
      pages.closeAllConnections();
      pages.close();
    },
  };
}
