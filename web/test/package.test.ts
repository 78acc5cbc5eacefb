import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const WEB = resolve(import.meta.dirname, '..')
const README = readFileSync(join(WEB, 'README.md'), 'utf-8')

/** An empty project in which the package is installed as it would be published. */
const folder = mkdtempSync(join(tmpdir(), 'consumer-'))

beforeAll(() => {
  const packed = JSON.parse(run(WEB, 'npm', 'pack', '--json', '--silent', '--pack-destination', folder))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  const archive = join(folder, packed[0].filename)
  run(folder, 'npm', 'install', '--offline', '--legacy-peer-deps', '--no-audit', '--no-fund', '--silent', archive)
  for (const peer of ['yjs', 'lib0', 'y-protocols']) addPeer(peer)
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(cwd: string, program: string, ...options: string[]): string {
  return execFileSync(program, options, {
    cwd,
    encoding: 'utf-8',
    stdio: 'pipe',
    env: { ...process.env, npm_config_loglevel: 'error' }
  })
}

/** Link the peer dependency of the tests, so that nothing is downloaded. */
function addPeer(name: string): void {
  mkdirSync(join(folder, 'node_modules', name, '..'), { recursive: true })
  symlinkSync(join(WEB, 'node_modules', name), join(folder, 'node_modules', name))
}

function importing(module: string): string[] {
  const script = `console.log(JSON.stringify(Object.keys(await import('${module}'))))`
  return JSON.parse(run(folder, process.execPath, '--input-type=module', '-e', script))
}

test('the package is imported from an empty project; React is needed for the hooks only', () => {
  expect(importing('yjs-gateway')).toEqual(
    expect.arrayContaining(['GatewayClient', 'PollingManager', 'pollingManager', 'TurnPoller', 'DocumentPoller'])
  )
  expect(importing('yjs-gateway/provider')).toEqual(['HttpProvider'])
  expect(importing('yjs-gateway/queries')).toEqual(expect.arrayContaining(['filesQuery', 'gatewayKeys']))
  expect(importing('yjs-gateway/push')).toEqual(['enablePush'])
  expect(importing('yjs-gateway/service-worker')).toEqual(['handlePush'])
  expect(() => importing('yjs-gateway/react')).toThrow()
  for (const peer of ['react', '@tanstack/react-query', '@types/react', 'csstype']) addPeer(peer)
  expect(importing('yjs-gateway/react')).toEqual(
    expect.arrayContaining(['GatewayProvider', 'useSessionPolling', 'useDocumentPolling', 'useDocument'])
  )
})

test('the package has the licence of the project', () => {
  const licence = readFileSync(join(folder, 'node_modules/yjs-gateway/LICENSE'), 'utf-8')
  expect(licence).toBe(readFileSync(join(WEB, '../LICENSE'), 'utf-8'))
})

test.each(['nodenext', 'bundler'])('the examples of the README are right by its types (%s)', (resolution) => {
  const globals = `
    declare const project: import('yjs-gateway').Project
    declare const sessionId: string
    declare const turnId: string
  `
  writeFileSync(join(folder, 'globals.d.ts'), globals)
  const examples = [...README.matchAll(/^```(tsx?)\n([\s\S]*?)^```/gm)]
  expect(examples.length).toBeGreaterThan(3)
  const files = examples.map(([, extension, code], index) => {
    writeFileSync(join(folder, `example${index}.${extension}`), `${code}\nexport {}\n`)
    return `example${index}.${extension}`
  })
  const module = resolution === 'nodenext' ? 'nodenext' : 'esnext'
  const compilerOptions = { strict: true, noEmit: true, target: 'es2022', jsx: 'react-jsx', module, types: [] }
  const config = {
    compilerOptions: { ...compilerOptions, moduleResolution: resolution },
    files: ['globals.d.ts', ...files]
  }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  run(folder, join(WEB, 'node_modules', '.bin', 'tsc'))
})

test('the sizes that the README states are those of the build', () => {
  const sizes = run(WEB, process.execPath, 'scripts/size.mjs').trim().split('\n')
  console.log(sizes.join('\n'))
  for (const row of sizes) {
    const [, part = '', size = ''] = row.split('|')
    const stated = README.split('\n').find((line) => line.startsWith(`|${part}|`))
    expect(stated, `README.md has a row for${part}`).toBeDefined()
    const claimed = Number.parseFloat(stated?.split('|')[2] ?? '')
    expect(Math.abs(claimed - Number.parseFloat(size)), row).toBeLessThanOrEqual(Math.max(0.3, claimed * 0.03))
  }
})

test.each(['demo', 'graphiql', 'reference'])(
  'the page that the gateway serves is that of the source: node %s/build.mjs',
  (page) => {
    const built = join(folder, page)
    run(WEB, process.execPath, `${page}/build.mjs`, built)
    const served = resolve(WEB, '..', 'gateway', page)
    expect(readdirSync(served).sort()).toEqual(readdirSync(built).sort())
    for (const name of readdirSync(built)) {
      expect(readFileSync(join(served, name)).equals(readFileSync(join(built, name))), name).toBe(true)
    }
  }
)
