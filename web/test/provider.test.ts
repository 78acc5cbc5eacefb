import 'fake-indexeddb/auto'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { IndexeddbPersistence } from 'y-indexeddb'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { PollingManager } from '../src/polling/manager.js'
import { HttpProvider, type HttpProviderOptions, type ProviderTransport } from '../src/provider/http-provider.js'
import type { Closed } from '../src/provider/transport.js'
import { GatewayProcess } from './support/gateway.js'
import { Heard, PATIENCE } from './support/until.js'

const gateway = new GatewayProcess()
const providers: HttpProvider[] = []

beforeAll(async () => {
  await gateway.start()
})

afterEach(() => {
  for (const provider of providers.splice(0)) provider.destroy()
})

afterAll(() => gateway.stop())

function quickManager(): PollingManager {
  return new PollingManager({ settings: { idleStopMs: null, retryDelaysMs: [20], retryForEver: true, fastLoopMs: 0 } })
}

function open(project: string, path: string, options: HttpProviderOptions = {}, doc = new Y.Doc()): HttpProvider {
  const quick = { manager: quickManager(), interval: options.transport === 'poll' ? 20 : 600_000, batchMs: 5 }
  const polyfill = WebSocket as unknown as typeof globalThis.WebSocket
  const provider = new HttpProvider(gateway.url, project, path, doc, { ...quick, WebSocket: polyfill, ...options })
  providers.push(provider)
  return provider
}

function text(provider: HttpProvider): Y.Text {
  return provider.doc.getText('content')
}

async function synced(provider: HttpProvider): Promise<void> {
  if (!provider.synced) await new Promise<void>((resolve) => provider.once('sync', () => resolve()))
}

async function untilTextIs(provider: HttpProvider, wanted: string): Promise<void> {
  await vi.waitFor(() => expect(text(provider).toString()).toBe(wanted), PATIENCE)
}

function untilClosed(provider: HttpProvider): Promise<Closed> {
  return new Promise((resolve) => provider.once('connection-close', resolve))
}

/** A network that can be disconnected, and that counts requests. */
class Network {
  up = true
  readonly requests: string[] = []

  readonly fetch: typeof fetch = async (input, init) => {
    if (!this.up) throw new TypeError('fetch failed')
    this.requests.push(`${init?.method} ${new URL(String(input)).pathname.split('/').slice(4).join('/')}`)
    return fetch(input, init)
  }
}

const TRANSPORTS: ProviderTransport[] = ['poll', 'long-poll', 'sse', 'auto', 'websocket']

describe.each(TRANSPORTS)('by %s', (transport) => {
  test('two who type at once in a new file come to the same text, which the gateway has', async () => {
    const project = gateway.project()
    const one = open(project.name, 'notes/a.md', { transport })
    const other = open(project.name, 'notes/a.md', { transport })
    await Promise.all([synced(one), synced(other)])
    for (const word of ['one ', 'two ', 'three ']) {
      text(one).insert(0, word)
      text(other).insert(text(other).length, word.toUpperCase())
      await Promise.resolve()
    }
    const whole = /^three two one ONE TWO THREE $|^ONE TWO THREE three two one $/
    await vi.waitFor(() => expect(text(one).toString()).toMatch(whole), PATIENCE)
    await untilTextIs(other, text(one).toString())
    await vi.waitFor(
      async () => expect((await project.readText('notes/a.md')).value).toBe(text(one).toString()),
      PATIENCE
    )
  })

  test('what an agent puts as text arrives beside what is typed', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'first\n')
    const provider = open(project.name, 'a.md', { transport })
    await synced(provider)
    expect(text(provider).toString()).toBe('first\n')
    await project.putText('a.md', 'first\nsecond\n')
    await untilTextIs(provider, 'first\nsecond\n')
  })

  test('a file that is deleted closes it, and what is typed afterwards brings nothing back', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'first\n')
    const provider = open(project.name, 'a.md', { transport })
    await synced(provider)
    const closed = untilClosed(provider)
    await project.delete('a.md')
    expect(await closed).toMatchObject({ reason: 'deleted' })
    expect(provider.closed?.reason).toBe('deleted')
    text(provider).insert(0, 'late')
    provider.connect()
    expect(provider.status).toBe('disconnected')
    await expect(project.readText('a.md')).rejects.toMatchObject({ code: 'file_deleted' })
  })

  test('another file under the same path is not mixed with this one', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'old')
    const provider = open(project.name, 'a.md', { transport })
    await synced(provider)
    provider.disconnect()
    text(provider).insert(0, 'offline ')
    await project.delete('a.md')
    await project.putText('a.md', 'new')
    const closed = untilClosed(provider)
    provider.connect()
    expect((await closed).reason).toMatch(/incarnation-changed|deleted/)
    expect(text(provider).toString()).toBe('offline old')
    expect((await project.readText('a.md')).value).toBe('new')
  })

  test('no keystroke is lost when the gateway is killed and started again meanwhile', async () => {
    const own = await new GatewayProcess().start()
    const project = own.project()
    const settings = { transport, manager: quickManager(), interval: 20, batchMs: 5 }
    const polyfill = WebSocket as unknown as typeof globalThis.WebSocket
    const typist = new HttpProvider(own.url, project.name, 'a.md', new Y.Doc(), { ...settings, WebSocket: polyfill })
    await synced(typist)
    const lost = new Heard<string>()
    typist.on('status', ({ status }) => lost.hear(status))
    for (const word of ['a', 'b', 'c']) text(typist).insert(text(typist).length, word)
    await vi.waitFor(async () => expect((await project.readText('a.md')).value).toBe('abc'), PATIENCE)
    await own.kill()
    text(typist).insert(3, 'd')
    await lost.until((status) => status === 'disconnected')
    text(typist).insert(4, 'e')
    expect(typist.unsaved).toBe(true)
    await own.start()
    text(typist).insert(5, 'f')
    await vi.waitFor(async () => expect((await project.readText('a.md')).value).toBe('abcdef'), PATIENCE)
    await vi.waitFor(() => expect(typist.unsaved).toBe(false), PATIENCE)
    typist.destroy()
    await own.stop()
  })
})

describe('edits', () => {
  test('that come together are one request, and are not fetched back', async () => {
    const project = gateway.project()
    await project.putText('a.md', '')
    const network = new Network()
    const provider = open(project.name, 'a.md', { fetch: network.fetch, transport: 'poll', interval: 600_000 })
    await synced(provider)
    const version = (await project.readUpdate('a.md')).version
    for (const letter of 'together') text(provider).insert(text(provider).length, letter)
    await provider.flush()
    expect(network.requests.filter((request) => request.startsWith('PATCH'))).toHaveLength(1)
    expect((await project.readUpdate('a.md')).version).toBe(version + 1)
    const before = vi.fn()
    provider.doc.on('update', before)
    const reads = () => network.requests.filter((request) => request.startsWith('GET')).length
    const asked = reads()
    provider.pull()
    provider.pull() // sent after the first poll was answered and its update applied
    await vi.waitFor(() => expect(reads()).toBeGreaterThanOrEqual(asked + 2), PATIENCE)
    expect(before).not.toHaveBeenCalled()
  })

  test.each(['poll', 'sse'] as const)(
    'made offline are kept, and sent when the network is there again (%s)',
    async (transport) => {
      const project = gateway.project()
      const network = new Network()
      const provider = open(project.name, 'a.md', { fetch: network.fetch, transport })
      await synced(provider)
      const unsaved = new Heard<boolean>()
      const errors = new Heard<Error>()
      provider.on('unsaved', unsaved.hear)
      provider.on('connection-error', errors.hear)
      network.up = false
      text(provider).insert(0, 'offline')
      await errors.until()
      expect(provider.unsaved).toBe(true)
      network.up = true
      await unsaved.until((each) => !each)
      expect((await project.readText('a.md')).value).toBe('offline')
      expect(unsaved.all).toEqual([true, false])
      await vi.waitFor(() => expect(provider.synced).toBe(true), PATIENCE)
      expect(provider.status).toBe('connected')
    }
  )

  test.each(TRANSPORTS.filter((name) => name !== 'websocket'))(
    'in a document that itself lacks something are stored over %s, and the rest when it has come',
    async (transport) => {
      const third = new Y.Doc()
      const updates: Uint8Array[] = []
      third.on('update', (update: Uint8Array) => updates.push(update))
      third.getText('content').insert(0, 'lost ')
      third.getText('content').insert(5, 'late')
      const doc = new Y.Doc()
      Y.applyUpdate(doc, updates[1] as Uint8Array) // the first update never arrives
      const project = gateway.project()
      const provider = open(project.name, 'a.md', { transport }, doc)
      const closed: Closed[] = []
      provider.on('connection-close', (each: Closed) => closed.push(each))
      await synced(provider)
      doc.getText('mine').insert(0, 'typed')
      await provider.flush()
      const reader = open(project.name, 'a.md', { transport })
      await synced(reader)
      expect(reader.doc.getText('mine').toString()).toBe('typed')
      Y.applyUpdate(reader.doc, updates[0] as Uint8Array)
      await untilTextIs(reader, 'lost late')
      expect(text(provider).toString()).toBe('lost late')
      expect(closed).toEqual([])
    }
  )

  test('whose predecessors were lost on the way are followed by all that is missing', async () => {
    const project = gateway.project()
    await project.putText('a.md', '')
    let swallow = true
    const swallowing: typeof fetch = async (input, init) => {
      if (init?.method !== 'PATCH' || !swallow) return fetch(input, init)
      swallow = false
      return Response.json({ path: 'a.md', version: 1, last_modified: '', cursor: '', changed: true })
    }
    const provider = open(project.name, 'a.md', { fetch: swallowing, transport: 'poll' })
    await synced(provider)
    text(provider).insert(0, 'lost ')
    await provider.flush()
    text(provider).insert(5, 'found')
    await provider.flush()
    expect((await project.readText('a.md')).value).toBe('lost found')
  })

  test('that the gateway refuses stop it, and stay in the document', async () => {
    const project = gateway.project()
    const refusing: typeof fetch = async (input, init) =>
      init?.method === 'PATCH' ? new Response('', { status: 403 }) : fetch(input, init)
    const provider = open(project.name, 'a.md', { fetch: refusing, transport: 'poll' })
    await synced(provider)
    const closed = untilClosed(provider)
    text(provider).insert(0, 'no')
    await expect(provider.flush()).rejects.toMatchObject({ status: 403 })
    expect(await closed).toMatchObject({ reason: 'refused', error: { status: 403 } })
    expect(provider.unsaved).toBe(true)
    expect(text(provider).toString()).toBe('no')
  })
})

describe('with y-indexeddb', () => {
  test('what was typed in an earlier life of the page, and never sent, is sent', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'server')
    const name = `db-${project.name}`
    const before = new Y.Doc()
    const stored = new IndexeddbPersistence(name, before)
    await stored.whenSynced
    before.getText('content').insert(0, 'kept ')
    await stored.destroy()
    const doc = new Y.Doc()
    const persistence = new IndexeddbPersistence(name, doc)
    const provider = open(project.name, 'a.md', { transport: 'poll' }, doc)
    await Promise.all([persistence.whenSynced, synced(provider)])
    await provider.flush()
    expect((await project.readText('a.md')).value).toMatch(/^kept server$|^serverkept $/)
    expect(text(provider).toString()).toBe((await project.readText('a.md')).value)
    await persistence.destroy()
  })

  test('a document that is of an earlier life of the file is not mixed with this one', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'old')
    const first = open(project.name, 'a.md', { transport: 'poll' })
    await synced(first)
    const { incarnation, doc } = first
    first.destroy()
    await project.delete('a.md')
    await project.putText('a.md', 'new')
    const second = open(project.name, 'a.md', { transport: 'poll', incarnation }, doc)
    expect(await untilClosed(second)).toMatchObject({ reason: 'incarnation-changed' })
    expect((await project.readText('a.md')).value).toBe('new')
  })
})

test('a gateway that has lost what the document builds on closes it', async () => {
  const project = gateway.project()
  await project.putText('a.md', 'one')
  const restored: typeof fetch = async (input, init) =>
    String(input).includes('from_version')
      ? new Response(JSON.stringify({ type: '', title: '', status: 409, detail: '', code: 'version_ahead' }), {
          status: 409,
          headers: { 'Content-Type': 'application/problem+json' }
        })
      : fetch(input, init)
  const provider = open(project.name, 'a.md', { fetch: restored, transport: 'poll' })
  expect(await untilClosed(provider)).toMatchObject({ reason: 'reset' })
})

test('a provider ends with its document', async () => {
  const project = gateway.project()
  const provider = open(project.name, 'a.md', { transport: 'poll' })
  const destroyed = vi.fn()
  provider.on('destroy', destroyed)
  provider.doc.destroy()
  expect(destroyed).toHaveBeenCalledOnce()
})

/** The awareness states of the other clients in a file. */
function others(provider: HttpProvider): unknown[] {
  const states = [...provider.awareness.getStates()].filter(([client]) => client !== provider.doc.clientID)
  return states.map(([, state]) => state.user?.name ?? null).sort()
}

async function untilOthersAre(provider: HttpProvider, ...names: string[]): Promise<void> {
  await vi.waitFor(() => expect(others(provider)).toEqual(names), PATIENCE)
}

/** Options for fast polls of transports that are not notified when a client joins. */
function quickly(transport: ProviderTransport): HttpProviderOptions {
  return transport === 'long-poll' ? { transport, interval: 20 } : { transport }
}

describe.each(TRANSPORTS)('awareness by %s', (transport) => {
  const quick = quickly(transport)

  test('is one with that of every other transport', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'text')
    const one = open(project.name, 'a.md', quick)
    one.awareness.setLocalState({ user: { name: 'ann' } })
    const rest = TRANSPORTS.map((each) => open(project.name, 'a.md', quickly(each)))
    for (const [index, each] of rest.entries()) each.awareness.setLocalState({ user: { name: `bob ${index}` } })
    await untilOthersAre(one, 'bob 0', 'bob 1', 'bob 2', 'bob 3', 'bob 4')
    for (const [index, each] of rest.entries()) {
      const wanted = rest.map((_, other) => `bob ${other}`).filter((_, other) => other !== index)
      await untilOthersAre(each, 'ann', ...wanted)
    }
    one.awareness.setLocalStateField('user', { name: 'zoe' })
    for (const each of rest) await vi.waitFor(() => expect(others(each)).toContain('zoe'), PATIENCE)
    for (const each of rest) each.destroy()
    await untilOthersAre(one)
    const late = open(project.name, 'a.md', quick)
    late.awareness.setLocalState({ user: { name: 'late' } })
    await untilOthersAre(late, 'zoe')
    await untilOthersAre(one, 'late')
  })

  // In a room, y-websocket waits for the other clients to renew their states, which takes 15 s.
  test.skipIf(transport === 'websocket')(
    'forgets the others while it is not connected, and finds them again',
    async () => {
      const project = gateway.project()
      await project.putText('a.md', 'text')
      const one = open(project.name, 'a.md', quick)
      const other = open(project.name, 'a.md', quick)
      one.awareness.setLocalState({ user: { name: 'ann' } })
      other.awareness.setLocalState({ user: { name: 'bob' } })
      await untilOthersAre(one, 'bob')
      await untilOthersAre(other, 'ann')
      one.disconnect()
      await untilOthersAre(one)
      await untilOthersAre(other)
      one.connect()
      await untilOthersAre(one, 'bob')
      await untilOthersAre(other, 'ann')
    }
  )
})

describe('awareness', () => {
  test.each(['auto', 'sse', 'long-poll', 'poll'] as const)(
    'costs nothing by %s where nobody asks',
    async (transport) => {
      const project = gateway.project()
      await project.putText('a.md', 'text')
      const network = new Network()
      const provider = open(project.name, 'a.md', { transport, fetch: network.fetch })
      await synced(provider)
      provider.doc.getText('content').insert(0, 'typed')
      await provider.flush()
      expect(network.requests.filter((each) => each.includes('presence'))).toEqual([])
    }
  )

  test('does not stay behind where a client leaves while it says that it is there', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'text')
    const other = open(project.name, 'a.md', { transport: 'sse' })
    other.awareness.setLocalState({ user: { name: 'bob' } })
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const slow: typeof fetch = async (input, init) => {
      const answer = await fetch(input, init)
      if (init?.method === 'PUT') await released
      return answer
    }
    const leaving = open(project.name, 'a.md', { transport: 'poll', fetch: slow })
    leaving.awareness.setLocalState({ user: { name: 'ann' } })
    await untilOthersAre(other, 'ann')
    leaving.destroy()
    release()
    await untilOthersAre(other)
  })

  test('is not set back by an answer that is older than an event', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'text')
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const said = new Heard<string>()
    const slow: typeof fetch = async (input, init) => {
      const answer = await fetch(input, init)
      if (init?.method === 'PUT') {
        said.hear('said')
        await released
      }
      return answer
    }
    const one = open(project.name, 'a.md', { transport: 'sse', fetch: slow })
    one.awareness.setLocalState({ user: { name: 'ann' } })
    const removed: number[] = []
    one.awareness.on('change', (change: { removed: number[] }) => removed.push(...change.removed))
    await said.until()
    open(project.name, 'a.md', { transport: 'poll' }).awareness.setLocalState({ user: { name: 'bob' } })
    await untilOthersAre(one, 'bob')
    release()
    open(project.name, 'a.md', { transport: 'poll' }).awareness.setLocalState({ user: { name: 'cat' } })
    await untilOthersAre(one, 'bob', 'cat')
    expect(removed).toEqual([])
  })

  test('shows an agent that writes by PUT, at the place that it wrote', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'one three')
    const provider = open(project.name, 'a.md', { transport: 'sse' })
    provider.awareness.setLocalState({})
    await synced(provider)
    const headers = { 'Content-Type': 'text/plain', 'X-Author': 'agent-7' }
    await fetch(`${project.url}/files/a.md`, { method: 'PUT', body: 'one and three', headers })
    await untilTextIs(provider, 'one and three')
    await untilOthersAre(provider, 'agent-7')
    const [agent] = [...provider.awareness.getStates().values()].filter((state) => state.user !== undefined)
    const [from, to] = [agent?.cursor.anchor, agent?.cursor.head].map(
      (position) =>
        Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(position), provider.doc)?.index
    )
    expect(text(provider).toString().slice(from, to)).toBe('and ')
  })

  test.each(['auto', 'sse', 'long-poll', 'poll', 'websocket'] as const)(
    'is there by %s, and goes with it',
    (transport) => {
      const provider = open('p', 'a.md', { transport, connect: false })
      const heard = vi.fn()
      provider.awareness.on('update', heard)
      provider.awareness.setLocalStateField('user', { name: 'Ada' })
      expect(provider.awareness.getLocalState()).toMatchObject({ user: { name: 'Ada' } })
      expect(heard).toHaveBeenCalledOnce()
      provider.destroy()
      expect(provider.awareness.getLocalState()).toBeNull()
    }
  )

  test.each(['auto', 'sse', 'long-poll', 'poll', 'websocket'] as const)('leaves no timer by %s', (transport) => {
    vi.useFakeTimers()
    try {
      const provider = open('p', 'a.md', { transport, connect: false })
      expect(vi.getTimerCount()).toBe(transport === 'websocket' ? 1 : 0)
      provider.destroy()
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })

  test('that was given is used, and outlives the provider', () => {
    const doc = new Y.Doc()
    const given = new Awareness(doc)
    const provider = open('p', 'a.md', { transport: 'poll', connect: false, awareness: given }, doc)
    expect(provider.awareness).toBe(given)
    given.setLocalStateField('user', { name: 'Ada' })
    provider.destroy()
    expect(given.getLocalState()).toEqual({ user: { name: 'Ada' } })
    given.destroy()
  })
})
