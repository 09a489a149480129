// The npm package in web/: what npm packs can be imported by its name.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const web = fileURLToPath(new URL('../../web/', import.meta.url));

test('the package has what it needs, and exports resume', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'reverb-package-'));
  try {
    const env = { ...process.env, npm_config_cache: join(dir, 'cache'), npm_config_offline: 'true', npm_config_update_notifier: 'false' };
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', dir], { cwd: web, env });
    const [packed] = JSON.parse(stdout);
    assert.deepEqual(packed.files.map((f) => f.path).sort(), ['index.js', 'package.json', 'resume.d.ts', 'resume.js']);
    const home = join(dir, 'node_modules', packed.name);
    await mkdir(home, { recursive: true });
    await run('tar', ['-xzf', join(dir, packed.filename), '-C', home, '--strip-components=1']);
    const use = join(dir, 'use.mjs');
    await writeFile(use, `import { resume } from 'reverb-resume';
      import 'reverb-resume/resume.js';
      const connection = { bind() {} };
      const result = resume({ connection, send_event() {}, disconnect() {} }, { gap() {} });
      console.log(resume === globalThis.resume, typeof result.forget);`);
    assert.equal((await run(process.execPath, [use])).stdout, 'true function\n');
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('resume.js is at most 100 lines', async () => {
  const lines = (await readFile(join(web, 'resume.js'), 'utf8')).trimEnd().split('\n').length;
  assert.ok(lines <= 100, `${lines} lines`);
});
