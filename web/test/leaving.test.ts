// @vitest-environment jsdom
import { afterEach, expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { PollingManager } from '../src/polling/manager.js'
import { HttpProvider } from '../src/provider/http-provider.js'
import { PATIENCE } from './support/until.js'

interface Sent {
  method: string | undefined
  keepalive: boolean
  answer(response: Response): void
}

const sent: Sent[] = []

/** A gateway without files and without changes, which does not answer writes. */
const unanswering: typeof fetch = (input, init) => {
  if (init?.method === 'PATCH') {
    return new Promise((answer) => sent.push({ method: init.method, keepalive: init.keepalive === true, answer }))
  }
  if (String(input).includes('/changes')) return Promise.resolve(eventStream(init?.signal ?? null))
  if (String(input).includes('?limit=1'))
    return Promise.resolve(Response.json({ files: [], cursor: 'e.0', next: null }))
  const details = { type: '', title: '', status: 404, detail: '', code: 'file_not_found' }
  const headers = { 'Content-Type': 'application/problem+json' }
  return Promise.resolve(new Response(JSON.stringify(details), { status: 404, headers }))
}

function eventStream(signal: AbortSignal | null): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('id: e.0\nevent: ready\ndata: {}\n\n'))
      signal?.addEventListener('abort', () => {
        streams.delete(signal)
        controller.error(signal.reason)
      })
      if (signal !== null) streams.add(signal)
    }
  })
  return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } })
}

const streams = new Set<AbortSignal>()

afterEach(() => {
  sent.splice(0)
  vi.restoreAllMocks()
})

async function openedProvider(): Promise<HttpProvider> {
  const settings = { retryDelaysMs: [600_000] }
  const options = { transport: 'poll' as const, manager: new PollingManager({ settings }), fetch: unanswering }
  const provider = new HttpProvider('http://gateway', 'p', 'a.md', new Y.Doc(), { ...options, batchMs: 600_000 })
  await vi.waitFor(() => expect(provider.synced).toBe(true), PATIENCE)
  return provider
}

test('what was typed is sent before the page goes, so that it gets there without the page', async () => {
  const provider = await openedProvider()
  provider.doc.getText('content').insert(0, 'typed')
  expect(sent).toEqual([])
  vi.spyOn(document, 'hidden', 'get').mockReturnValue(true)
  document.dispatchEvent(new Event('visibilitychange'))
  await vi.waitFor(() => expect(sent).toMatchObject([{ method: 'PATCH', keepalive: true }]), PATIENCE)
  window.dispatchEvent(new Event('pagehide'))
  await vi.waitFor(() => expect(sent).toHaveLength(2), PATIENCE)
  provider.destroy()
})

test('what could not be sent is sent as soon as the network returns', async () => {
  const provider = await openedProvider()
  provider.doc.getText('content').insert(0, 'typed')
  provider.flush().catch(() => undefined)
  await vi.waitFor(() => expect(sent).toHaveLength(1), PATIENCE)
  const failed = new Promise((resolve) => provider.once('connection-error', resolve))
  sent[0]?.answer(new Response('', { status: 502 }))
  await failed
  window.dispatchEvent(new Event('online'))
  await vi.waitFor(() => expect(sent).toHaveLength(2), PATIENCE)
  provider.destroy()
})

test.each(['poll', 'auto'] as const)(
  'destroy leaves no timer, no request and no listener behind (%s)',
  async (transport) => {
    vi.useFakeTimers({ shouldAdvanceTime: true })
    const manager = new PollingManager()
    const provider = new HttpProvider('http://gateway', 'p', 'a.md', new Y.Doc(), {
      transport,
      manager,
      fetch: unanswering
    })
    const told = vi.fn()
    await vi.waitFor(() => expect(provider.synced).toBe(true), PATIENCE)
    await vi.waitFor(() => expect(streams.size).toBe(transport === 'auto' ? 1 : 0), PATIENCE)
    provider.doc.getText('content').insert(0, 'unsent')
    provider.on('status', told)
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    provider.destroy()
    expect(vi.getTimerCount()).toBe(0)
    expect(streams.size).toBe(0)
    expect(manager.suspended).toBe(true)
    provider.doc.getText('content').insert(0, 'later')
    document.dispatchEvent(new Event('visibilitychange'))
    await vi.advanceTimersByTimeAsync(60_000)
    expect(vi.getTimerCount()).toBe(0)
    expect(sent).toEqual([])
    expect(told.mock.calls).toEqual([[{ status: 'disconnected' }]])
    vi.useRealTimers()
  }
)
