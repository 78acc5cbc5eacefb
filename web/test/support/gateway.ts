/** A real gateway in its own process, on a real socket. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { GatewayClient } from '../../src/client.js'
import type { Project } from '../../src/project.js'

export const ROOT = resolve(import.meta.dirname, '../../..')
export const PYTHON = process.env.GATEWAY_PYTHON ?? join(ROOT, '.venv', 'bin', 'python')

/** `kill` is `kill -9`; `start` starts the gateway again, on the same port and database. */
export class GatewayProcess {
  url = ''
  private port = ''
  private process: ChildProcess | null = null
  private readonly folder = mkdtempSync(join(tmpdir(), 'gateway-'))

  constructor(private readonly settings: Record<string, string> = {}) {}

  async start(): Promise<this> {
    const env = { ...process.env, GATEWAY_DATABASE: `sqlite:///${join(this.folder, 'gateway.db')}`, ...this.settings }
    const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe']
    this.port ||= await freePort()
    const started = spawn(PYTHON, ['-m', 'gateway', 'serve', '--port', this.port], { cwd: ROOT, env, stdio })
    this.process = started
    const log: string[] = []
    started.stderr?.on('data', (text) => log.push(String(text)))
    for await (const line of createInterface({ input: started.stdout as NodeJS.ReadableStream })) {
      log.push(line)
      if (!line.startsWith('Listening on ')) continue
      this.url = line.slice('Listening on '.length).trim()
      started.stdout?.resume()
      return this
    }
    throw new Error(`the gateway did not start:\n${log.join('\n')}`)
  }

  async kill(): Promise<void> {
    await this.end('SIGKILL')
  }

  async stop(): Promise<void> {
    await this.end('SIGTERM')
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A project with an unused name. */
  project(name = `p-${crypto.randomUUID()}`): Project {
    return new GatewayClient(this.url).project(name)
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const ending = this.process
    this.process = null
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return
    const exit = once(ending, 'exit')
    ending.kill(signal)
    await exit
  }
}

/**
 * A free port of loopback, below the range of outgoing connections: one of those could otherwise take the port while
 * the gateway is down. Each process of pytest has ports of its own, as in `tests/support/ports.py`.
 */
async function freePort(): Promise<string> {
  const workers = Number(process.env.PYTEST_XDIST_WORKER_COUNT ?? 1)
  const worker = Number(process.env.PYTEST_XDIST_WORKER?.slice('gw'.length) ?? 0)
  for (;;) {
    const port = 10_240 + Math.floor(Math.random() * 22_528)
    if (port % workers !== worker % workers) continue
    const server = createServer()
    const free = await new Promise<boolean>((done) => {
      server.once('error', () => done(false))
      server.listen(port, '127.0.0.1', () => server.close(() => done(true)))
    })
    if (free) return String(port)
  }
}
