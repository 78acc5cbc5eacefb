/** Credentials: a token is renewed without losing an edit; tokens are revoked while a user types. */
import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { GatewayClient, type Token } from '../src/index.js'
import { PollingManager } from '../src/polling/manager.js'
import { HttpProvider, type HttpProviderOptions, type ProviderTransport } from '../src/provider/http-provider.js'
import type { Closed } from '../src/provider/transport.js'
import { TokenSource } from '../src/token.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

const SECRET = 'a secret of an application, 32 bytes or more'
const gateway = new GatewayProcess({ GATEWAY_AUTH: 'required', GATEWAY_JWT_KEY: SECRET })
const providers: HttpProvider[] = []

beforeAll(async () => {
  await gateway.start()
})

afterEach(() => {
  for (const provider of providers.splice(0)) provider.destroy()
})

afterAll(() => gateway.stop())

/** Sign a JSON Web Token, as a backend does. */
function sign(seconds: number, grant: object, subject = 'ann', now = Date.now()): string {
  const claims = { sub: subject, exp: now / 1000 + seconds, yjs_gateway: grant }
  const parts = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)))
  const signed = parts.map((part) => part.toString('base64url')).join('.')
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

function admin(): GatewayClient {
  return new GatewayClient(gateway.url, { token: sign(600, { admin: true }, 'root') })
}

function name(): string {
  return `p-${crypto.randomUUID()}`
}

function open(project: string, token: Token, options: HttpProviderOptions = {}): HttpProvider {
  const settings = { idleStopMs: null, retryDelaysMs: [20], retryForEver: true, fastLoopMs: 0 }
  const quick = { manager: new PollingManager({ settings }), interval: 20, batchMs: 5 }
  const polyfill = WebSocket as unknown as typeof globalThis.WebSocket
  const provider = new HttpProvider(gateway.url, project, 'a.md', new Y.Doc(), {
    ...quick,
    WebSocket: polyfill,
    token,
    ...options
  })
  providers.push(provider)
  return provider
}

function write(provider: HttpProvider, text: string): void {
  const content = provider.doc.getText('content')
  content.insert(content.length, text)
}

async function until(provider: HttpProvider, text: string): Promise<void> {
  await vi.waitFor(() => expect(provider.doc.getText('content').toString()).toContain(text), PATIENCE)
}

test('a token that is asked for is asked once, and again before it ends', async () => {
  let now = Date.now()
  let asked = 0
  const source = new TokenSource(
    () => {
      asked += 1
      return sign(600 + asked, {}, 'ann', now)
    },
    () => now
  )
  const first = await source.usable()
  expect(await Promise.all([source.usable(), source.usable()])).toEqual([first, first])
  expect(asked).toBe(1)
  now += 572_000
  const [second, third] = await Promise.all([source.usable(), source.usable()])
  expect([asked, second === third, second === first]).toEqual([2, true, false])
  expect(await source.otherThan(first)).toBe(second)
  expect(await source.otherThan(second)).not.toBe(second)
  expect(asked).toBe(3)
})

test('a request that is refused is sent once more with another token', async () => {
  const project = name()
  const tokens = ['ygw_wrong', sign(600, { projects: { [project]: 'write' } })]
  const client = new GatewayClient(gateway.url, { token: () => tokens.shift() ?? 'none' })
  await client.project(project).putText('a.md', 'text')
  expect((await client.project(project).readText('a.md')).value).toBe('text')
  expect(tokens).toEqual([])
})

test('a fixed token that does not count is an error at once', async () => {
  const client = new GatewayClient(gateway.url, { token: 'ygw_wrong' })
  await expect(client.project('demo').listFiles()).rejects.toMatchObject({ code: 'unauthenticated' })
  const provider = open('demo', 'ygw_wrong', { transport: 'websocket' })
  const closed = await new Promise((resolve) => provider.once('connection-close', resolve))
  expect(closed).toMatchObject({ reason: 'refused' })
})

/**
 * Let two type until each has asked for so many tokens; resolves to false if the gateway has refused one of them: on a slow
 * machine a token can end before it is used, and so can the next one, with which the request is sent again.
 */
async function typeWithShortTokens(transport: ProviderTransport, seconds: number, tokens: number): Promise<boolean> {
  const project = name()
  const asked = { ann: 0, bob: 0 }
  const openAs = (subject: 'ann' | 'bob') => {
    const token = async () => {
      asked[subject] += 1
      return sign(seconds, { projects: { [project]: 'write' } }, subject)
    }
    return open(project, token, { transport })
  }
  const [ann, bob] = [openAs('ann'), openAs('bob')]
  const closed = new Promise<Closed>((resolve) => {
    for (const each of [ann, bob]) each.once('connection-close', resolve)
  })
  const isRefused = async (work: Promise<unknown>) => {
    const ended = await Promise.race([work.then(() => null), closed])
    if (ended !== null) expect(ended).toMatchObject({ reason: 'refused' })
    return ended !== null
  }
  let rounds = 0
  while (Math.min(asked.ann, asked.bob) < tokens) {
    write(ann, `a${rounds} `)
    write(bob, `b${rounds} `)
    if (await isRefused(Promise.all([until(ann, `b${rounds} `), until(bob, `a${rounds} `)]))) return false
    rounds += 1
  }
  const text = ann.doc.getText('content').toString()
  expect(text).toBe(bob.doc.getText('content').toString())
  // Rejects where it is refused, after `connection-close`.
  if (await isRefused(Promise.all([ann.flush(), bob.flush()]).catch(() => closed))) return false
  expect((await admin().project(project).readText('a.md')).value).toBe(text)
  expect(text.split(' ').filter(Boolean).length).toBe(2 * rounds)
  return true
}

test.each(['sse', 'long-poll', 'poll', 'websocket'] as const)(
  'over %s, tokens end one after the other while two type, and nothing is lost',
  async (transport) => {
    const tried: number[] = []
    for (const seconds of [0.9, 3, 10, 30]) {
      if (await typeWithShortTokens(transport, seconds, transport === 'websocket' ? 3 : 6)) return
      tried.push(seconds)
    }
    expect(tried).toEqual([])
  }
)

test('a token that is revoked while one types is replaced by another', async () => {
  const project = name()
  const made: { id: string; token: string }[] = []
  const token = async () => {
    const body = JSON.stringify({ name: 'ann', projects: { [project]: 'write' } })
    const headers = { 'Content-Type': 'application/json' }
    const answer = await admin().send('POST', '/api/tokens', { headers, body })
    made.push((await answer.json()) as { id: string; token: string })
    return made.at(-1)?.token ?? ''
  }
  const provider = open(project, token, { transport: 'websocket' })
  const other = open(project, sign(600, { projects: { [project]: 'write' } }), { transport: 'websocket' })
  write(provider, 'before ')
  await until(other, 'before ')
  await admin().send('DELETE', `/api/tokens/${made[0]?.id}`)
  write(provider, 'after')
  await until(other, 'before after')
  await vi.waitFor(() => expect(made.length).toBe(2), PATIENCE)
})

test('who may read only hears that, and keeps what was typed', async () => {
  const project = name()
  await admin().project(project).putText('a.md', 'text')
  const reader = open(project, sign(600, { projects: { [project]: 'read' } }), { transport: 'websocket' })
  await until(reader, 'text')
  write(reader, '!')
  const closed = await new Promise((resolve) => reader.once('connection-close', resolve))
  expect(closed).toMatchObject({ reason: 'refused' })
  expect(reader.doc.getText('content').toString()).toBe('text!')
})
