/** Runs the README's migration guides from other providers as they are printed. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { GatewayProcess } from './support/gateway.js'

const README = readFileSync(resolve(import.meta.dirname, '..', 'README.md'), 'utf-8')
const folder = mkdtempSync(join(tmpdir(), 'guides-'))
const gateway = new GatewayProcess()

beforeAll(async () => {
  await gateway.start()
})

afterAll(async () => {
  await gateway.stop()
  rmSync(folder, { recursive: true, force: true })
})

test.each(['y-websocket', 'Hocuspocus'])('coming from %s', async (from) => {
  const guide = README.split(`## Coming from ${from}\n`)[1]?.split('\n## ')[0] ?? ''
  const code = /^```ts\n([\s\S]*?)^```/m.exec(guide)?.[1] ?? ''
  const project = gateway.project('demo')
  await project.putText('plan.md', `# ${from}\n`)
  const { outputFiles } = await build({
    stdin: { contents: code.replaceAll('http://localhost:8000', gateway.url), resolveDir: import.meta.dirname },
    alias: { 'yjs-gateway/provider': resolve(import.meta.dirname, '../src/provider/index.ts') },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    external: ['y-websocket'],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)" }
  })
  const script = join(folder, `${from}.mjs`)
  writeFileSync(script, outputFiles[0]?.text ?? '')
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 180_000 })
  expect(stdout.trim().split('\n')).toContain('saved')
  expect((await project.readText('plan.md')).value).toBe(`Hello. # ${from}\n`)
})
