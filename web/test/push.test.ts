/** Push messages, from the gateway to a page that is opened offline. */
import { createDecipheriv, createECDH, createHmac, type ECDH, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { build } from 'esbuild'
import type { Browser, BrowserContext, CDPSession, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

/** A push service on loopback: stores the messages it receives, decrypted as a browser would. */
class PushService {
  readonly messages: string[] = []
  private readonly key: ECDH = createECDH('prime256v1')
  private readonly secret = randomBytes(16)
  private readonly server: Server

  constructor() {
    this.key.generateKeys()
    this.server = createServer((request, answer) => {
      const parts: Buffer[] = []
      request.on('data', (part) => parts.push(part))
      request.on('end', () => {
        this.messages.push(this.decrypt(Buffer.concat(parts)))
        answer.writeHead(201).end()
      })
    })
  }

  async start(): Promise<void> {
    await once(this.server.listen(0, '127.0.0.1'), 'listening')
  }

  stop(): void {
    this.server.close()
  }

  get subscription(): object {
    const { port } = this.server.address() as AddressInfo
    const keys = { p256dh: this.key.getPublicKey('base64url'), auth: this.secret.toString('base64url') }
    return { endpoint: `http://127.0.0.1:${port}/push`, expirationTime: null, keys }
  }

  /** Decrypts by RFC 8291 §3.4 and RFC 8188, written from their text. */
  private decrypt(body: Buffer): string {
    const salt = body.subarray(0, 16)
    const sender = body.subarray(21, 21 + (body[20] ?? 0))
    const info = Buffer.concat([Buffer.from('WebPush: info\0'), this.key.getPublicKey(), sender, Buffer.of(1)])
    const material = hmac(hmac(this.secret, this.key.computeSecret(sender)), info)
    const seed = hmac(salt, material)
    const key = hmac(seed, Buffer.from('Content-Encoding: aes128gcm\0\x01')).subarray(0, 16)
    const nonce = hmac(seed, Buffer.from('Content-Encoding: nonce\0\x01')).subarray(0, 12)
    const record = body.subarray(21 + sender.length)
    const cipher = createDecipheriv('aes-128-gcm', key, nonce)
    cipher.setAuthTag(record.subarray(-16))
    const padded = Buffer.concat([cipher.update(record.subarray(0, -16)), cipher.final()])
    return padded.subarray(0, padded.lastIndexOf(2)).toString()
  }
}

function hmac(key: Buffer, data: Buffer): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

async function bundled(name: string, format: 'esm' | 'iife'): Promise<string> {
  const entry = resolve(import.meta.dirname, 'support', name)
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format, platform: 'browser' })
  return outputFiles[0]?.text ?? ''
}

describe.skipIf(!HAS_BROWSER)('push messages in Chromium', () => {
  const service = new PushService()
  let application: Server
  let origin: string
  let gateway: GatewayProcess
  let browser: Browser
  let context: BrowserContext

  beforeAll(async () => {
    const files: Record<string, [string, string]> = {
      '/': ['text/html', '<!doctype html><script type="module" src="/page.js"></script>'],
      '/page.js': ['text/javascript', await bundled('push-page.ts', 'esm')],
      '/worker.js': ['text/javascript', await bundled('push-worker.ts', 'iife')]
    }
    application = createServer(({ url }, answer) => {
      const [type, content] = files[url ?? ''] ?? ['text/plain', '']
      answer.writeHead(content === '' ? 404 : 200, { 'Content-Type': type }).end(content)
    })
    await once(application.listen(0, '127.0.0.1'), 'listening')
    origin = `http://127.0.0.1:${(application.address() as AddressInfo).port}`
    await service.start()
    gateway = new GatewayProcess({ GATEWAY_CORS_ORIGINS: origin, GATEWAY_PUSH_HOSTS: '127.0.0.1' })
    await gateway.start()
    browser = await startBrowser()
    context = await browser.newContext()
    await context.grantPermissions(['notifications'], { origin })
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
    application.close()
    service.stop()
  })

  test('what an agent writes while the page is closed is there when it is opened without a network', async () => {
    const project = gateway.project()
    await project.putText('notes.md', 'Mine.')
    await project.putText('other.md', 'Not kept.')
    const page = await context.newPage()
    await page.goto(origin)
    await call(page, 'keep', gateway.url, project.name, 'notes.md')
    const client = await call(page, 'enable', gateway.url, project.name, service.subscription)
    expect(client).toMatch(/^[0-9a-f-]{36}$/)
    const worker = await workerOf(context, page, origin)
    await page.goto('about:blank')

    // An agent edits, and its turn ends: the gateway sends push messages.
    await project.putText('notes.md', "Mine. And the agent's.")
    await project.putText('other.md', 'Not kept, changed.')
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'add')
    await project.setTurnStatus(session.id, turn.id, 'running')
    await project.setTurnStatus(session.id, turn.id, 'completed')
    const ended = () => service.messages.some((message) => message.includes('"completed"'))
    await vi.waitFor(() => expect(ended()).toBe(true), PATIENCE)
    for (const message of service.messages) await worker.deliver(message)
    await vi.waitFor(
      async () => expect(await worker.cursor()).toBe(JSON.parse(service.messages.at(-1) ?? '').cursor),
      PATIENCE
    )

    // Disconnect the network: neither the gateway nor the application's server is reachable.
    await gateway.kill()
    application.closeAllConnections()
    application.close()
    await page.goto(origin)
    await page.waitForFunction('globalThis.kept !== undefined')
    expect(await call(page, 'kept', 'notes.md')).toBe("Mine. And the agent's.")
    expect(await page.evaluate('indexedDB.databases().then((all) => all.map(({ name }) => name).sort())')).toEqual([
      'notes.md',
      'yjs-gateway'
    ])

    // Delivering the same message again finds no changes, and does no harm.
    await gateway.start()
    await worker.deliver(service.messages.at(-1) ?? '')
    await page.waitForFunction('globalThis.told.some(({ paths }) => paths.length === 0)')
    expect(await call(page, 'kept', 'notes.md')).toBe("Mine. And the agent's.")
  })
})

function call(page: Page, name: string, ...values: unknown[]): Promise<unknown> {
  return page.evaluate(
    ([called, given]) =>
      (globalThis as unknown as Record<string, (...values: unknown[]) => unknown>)[called as string]?.(
        ...(given as unknown[])
      ),
    [name, values]
  )
}

/** Delivers push messages to the service worker, like a browser that has woken it. */
async function workerOf(context: BrowserContext, page: Page, origin: string) {
  const session: CDPSession = await context.newCDPSession(page)
  const registered = new Promise<string>((resolve) => {
    session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      const mine = registrations.find(({ scopeURL }) => scopeURL.startsWith(origin))
      if (mine !== undefined) resolve(mine.registrationId)
    })
  })
  await session.send('ServiceWorker.enable')
  const registrationId = await registered
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker'))
  return {
    deliver: (data: string) => session.send('ServiceWorker.deliverPushMessage', { origin, registrationId, data }),
    /** The cursor up to which the service worker has read. */
    cursor: () =>
      worker.evaluate(async () => {
        const opened = indexedDB.open('yjs-gateway')
        await new Promise((resolve) => opened.addEventListener('success', resolve))
        const asked = opened.result.transaction('push').objectStore('push').getAll()
        await new Promise((resolve) => asked.addEventListener('success', resolve))
        opened.result.close()
        return asked.result[0].cursor
      })
  }
}
