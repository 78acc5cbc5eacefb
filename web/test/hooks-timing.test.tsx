// @vitest-environment jsdom
import { QueryClient } from '@tanstack/react-query'
import { act, renderHook } from '@testing-library/react'
import { type ReactNode, StrictMode } from 'react'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { PollingManager } from '../src/polling/manager.js'
import { GatewayProvider, useDocumentPolling, useSessionPolling } from '../src/react/index.js'

/** The next response of the gateway; requests are recorded with their times. */
let answer: () => Response
let asked: number[]
let aborted: boolean
let began: number

const scripted: typeof fetch = async (_, init) => {
  asked.push(Math.round((performance.now() - began) / 10) * 10)
  init?.signal?.addEventListener('abort', () => {
    aborted = true
  })
  return answer()
}

beforeEach(() => {
  vi.useFakeTimers()
  asked = []
  aborted = false
  began = performance.now()
  answer = turn
})

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

function turn(): Response {
  const times = { created_at: '', started_at: null, completed_at: null, last_updated: '' }
  const body = {
    id: 't',
    session_id: 's',
    prompt: '',
    status: 'running',
    blocks: [],
    block_count: 0,
    error: null,
    ...times
  }
  return Response.json(body, { headers: { ETag: '"1"' } })
}

function unchanged(): Response {
  return new Response(null, { status: 304 })
}

function wrapper({ children }: { children: ReactNode }) {
  return (
    <StrictMode>
      <GatewayProvider client={CLIENT} project="p" manager={manager} transport="poll" queryClient={queryClient}>
        {children}
      </GatewayProvider>
    </StrictMode>
  )
}

const CLIENT = new GatewayClient('http://gateway', { fetch: scripted })
let manager: PollingManager
let queryClient: QueryClient

beforeEach(() => {
  manager = new PollingManager({ random: () => 0.5 })
  // Without this, the cache would keep unused data for five minutes, with its own timers.
  queryClient = new QueryClient({ defaultOptions: { queries: { gcTime: Number.POSITIVE_INFINITY } } })
})

async function advance(milliseconds: number): Promise<void> {
  await act(() => vi.advanceTimersByTimeAsync(milliseconds))
}

test('a turn that runs is asked for every second; unmounted it is asked for no more', async () => {
  const { result, unmount } = renderHook(() => useSessionPolling({ sessionId: 's', turnId: 't' }), { wrapper })
  await advance(0)
  answer = unchanged
  asked = []
  await advance(3_000)
  expect(asked).toEqual([1_000, 2_000, 3_000])
  expect(result.current.isPolling).toBe(true)
  unmount()
  expect(vi.getTimerCount()).toBe(0)
  await advance(60_000)
  expect(asked).toHaveLength(3)
})

test('an interval of its own is kept', async () => {
  const { unmount } = renderHook(() => useSessionPolling({ sessionId: 's', turnId: 't', interval: 500 }), { wrapper })
  await advance(0)
  answer = unchanged
  asked = []
  await advance(1_500)
  expect(asked).toEqual([500, 1_000, 1_500])
  unmount()
})

test('failures are followed by retries after 2, 4, 8, 16 and 16 s, then it stops; refetch begins anew', async () => {
  answer = () => new Response('', { status: 503 })
  const onError = vi.fn()
  const { result, unmount } = renderHook(() => useSessionPolling({ sessionId: 's', turnId: 't', onError }), { wrapper })
  await advance(0)
  asked = asked.slice(-1)
  await advance(120_000)
  expect(asked).toEqual([0, 2_000, 6_000, 14_000, 30_000, 46_000])
  expect(onError).toHaveBeenCalledTimes(6)
  expect(result.current).toMatchObject({ isPolling: false, error: { status: 503 } })
  answer = turn
  await act(async () => {
    const refetched = result.current.refetch()
    await vi.advanceTimersByTimeAsync(0)
    await refetched
  })
  expect(result.current).toMatchObject({ isPolling: true, error: null, data: { id: 't' } })
  unmount()
})

test('after two minutes without a change it stops, and goes on when the user does something', async () => {
  const { result, unmount } = renderHook(() => useSessionPolling({ sessionId: 's', turnId: 't' }), { wrapper })
  await advance(0)
  answer = unchanged
  await advance(125_000)
  expect(result.current.isPolling).toBe(false)
  act(() => {
    window.dispatchEvent(new Event('pointerdown'))
  })
  await advance(0)
  expect(result.current.isPolling).toBe(true)
  unmount()
})

test('files are asked for every 3 s, once for all who ask; unmounted in flight, the request is aborted', async () => {
  answer = () => Response.json({ changes: [], cursor: 'e.1', more: false })
  const { unmount } = renderHook(() => [useDocumentPolling(), useDocumentPolling()], { wrapper })
  await advance(0)
  asked = []
  answer = unchanged
  await advance(9_000)
  expect(asked).toEqual([3_000, 6_000, 9_000])
  answer = () => new Response(new ReadableStream())
  await advance(3_000)
  aborted = false
  unmount()
  expect(aborted).toBe(true)
})
