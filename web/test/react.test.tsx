// @vitest-environment jsdom
import { QueryClient } from '@tanstack/react-query'
import { act, cleanup, configure, renderHook, waitFor } from '@testing-library/react'
import { type ReactNode, StrictMode } from 'react'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type * as Y from 'yjs'
import { GatewayClient } from '../src/client.js'
import { PollingManager } from '../src/manager.js'
import type { Project } from '../src/project.js'
import type { PollTransport } from '../src/project-feed.js'
import {
  type DocumentChange,
  GatewayProvider,
  useDocument,
  useDocumentPolling,
  useFiles,
  useSessionPolling,
  useTurn
} from '../src/react/index.js'
import type { Turn } from '../src/wire.js'
import { GatewayProcess } from './support/gateway.js'

configure({ asyncUtilTimeout: 10_000 })

const gateway = new GatewayProcess()
let manager: PollingManager
let project: Project
/** Of which requests the gateway says that they are forbidden. */
let forbidden: (method: string, path: string) => boolean
/** When it says so. */
let refusal: Promise<void>
let transport: PollTransport

const guarded: typeof fetch = (input, init) =>
  forbidden(init?.method ?? 'GET', new URL(String(input)).pathname)
    ? refusal.then(() => new Response('', { status: 403 }))
    : fetch(input, init)

beforeAll(async () => {
  await gateway.start()
})

beforeEach(() => {
  manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
  project = gateway.project()
  forbidden = () => false
  refusal = Promise.resolve()
  transport = 'auto'
})

afterEach(async () => {
  cleanup()
  // Unmounted, nothing is asked any more: every hook has left.
  await waitFor(() => expect(manager.resting).toBe(true))
})

afterAll(() => gateway.stop())

function wrapper(): (props: { children: ReactNode }) => ReactNode {
  const client = new GatewayClient(gateway.url, { fetch: guarded })
  const queryClient = new QueryClient({ defaultOptions: { queries: { retry: false } } })
  const props = { client, project: project.name, manager, transport, queryClient }
  return ({ children }) => (
    <StrictMode>
      <GatewayProvider {...props}>{children}</GatewayProvider>
    </StrictMode>
  )
}

/** From now on what is forbidden is refused only when the function that this returns is called. */
function hold(): () => void {
  let refuse = () => {}
  refusal = new Promise((resolve) => {
    refuse = resolve
  })
  return () => refuse()
}

function textOf(doc: Y.Doc | null): string | undefined {
  return doc?.getText('content').toString()
}

describe('useSessionPolling', () => {
  test('follows a turn to its end and then stops', async () => {
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Count')
    const onUpdate = vi.fn<(turn: Turn) => void>()
    const onComplete = vi.fn<(turn: Turn) => void>()
    const options = { sessionId: session.id, turnId: turn.id, onUpdate, onComplete }
    const { result } = renderHook(() => useSessionPolling(options), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data?.status).toBe('pending'))
    expect(result.current.isPolling).toBe(true)
    await project.appendBlocks(session.id, turn.id, [{ type: 'text', content: 'one' }])
    await waitFor(() => expect(result.current.data?.blocks).toHaveLength(1))
    await project.appendBlocks(session.id, turn.id, [{ type: 'text', content: 'two' }])
    await project.setTurnStatus(session.id, turn.id, 'completed')
    await waitFor(() => expect(result.current.isPolling).toBe(false))
    expect(result.current.data?.blocks.map((block) => block.content)).toEqual(['one', 'two'])
    expect(onComplete).toHaveBeenCalledOnce()
    expect(onUpdate.mock.calls.at(-1)?.[0].status).toBe('completed')
    expect(manager.resting).toBe(true)
  })

  test('without a turn follows the newest one of the session', async () => {
    const session = await project.createSession()
    const { result } = renderHook(() => useSessionPolling({ sessionId: session.id, interval: 30 }), {
      wrapper: wrapper()
    })
    expect(result.current.data).toBeUndefined()
    const first = await project.createTurn(session.id, 'First')
    await waitFor(() => expect(result.current.data?.id).toBe(first.id))
    await project.setTurnStatus(session.id, first.id, 'cancelled')
    await waitFor(() => expect(result.current.data?.status).toBe('cancelled'))
    const second = await project.createTurn(session.id, 'Second')
    await waitFor(() => expect(result.current.data?.id).toBe(second.id))
    await waitFor(() => expect(result.current.isPolling).toBe(true))
  })

  test('held still asks nothing; an error is told and then over', async () => {
    transport = 'poll'
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Count')
    const onError = vi.fn()
    forbidden = () => true
    const { result, rerender } = renderHook(
      ({ enabled }) => useSessionPolling({ sessionId: session.id, turnId: turn.id, enabled, onError }),
      { wrapper: wrapper(), initialProps: { enabled: false } }
    )
    expect(result.current).toMatchObject({ isPolling: false, error: null })
    expect(manager.resting).toBe(true)
    rerender({ enabled: true })
    await waitFor(() => expect(result.current.error).toMatchObject({ status: 403 }))
    expect(onError).toHaveBeenCalledWith(result.current.error)
    expect(result.current.isPolling).toBe(false)
    forbidden = () => false
    await act(() => result.current.refetch())
    await waitFor(() => expect(result.current).toMatchObject({ error: null, isPolling: true }))
    expect(result.current.data?.id).toBe(turn.id)
  })
})

describe('useTurn', () => {
  test('shows a turn before the gateway has it, and follows it', async () => {
    const session = await project.createSession()
    const { result } = renderHook(() => useTurn(session.id), { wrapper: wrapper() })
    let created: Promise<Turn> | undefined
    act(() => {
      created = result.current.create('Do it')
    })
    await waitFor(() => expect(result.current.data).toMatchObject({ prompt: 'Do it', status: 'pending' }))
    const turn = await created
    await waitFor(() => expect(result.current.data?.id).toBe(turn?.id))
    await project.appendBlocks(session.id, turn?.id ?? '', [{ type: 'text', content: 'Done' }])
    await waitFor(() => expect(result.current.data?.blocks[0]?.content).toBe('Done'))
    await act(() => result.current.cancel())
    expect(result.current.data?.status).toBe('cancelled')
    expect((await project.turnStatus(session.id, turn?.id ?? '')).value?.status).toBe('cancelled')
  })

  test('takes it back where the gateway refuses it', async () => {
    const session = await project.createSession()
    forbidden = (method) => method === 'POST'
    const { result } = renderHook(() => useTurn(session.id), { wrapper: wrapper() })
    const refuse = hold()
    const created = result.current.create('Do it')
    const refused = expect(created).rejects.toMatchObject({ status: 403 })
    await waitFor(() => expect(result.current.data?.prompt).toBe('Do it'))
    refuse()
    await refused
    await waitFor(() => expect(result.current.error).toMatchObject({ status: 403 }))
    expect(result.current.data).toBeUndefined()
  })
})

describe('useDocumentPolling', () => {
  test('tells which files changed, and brings open documents up to date', async () => {
    transport = 'poll'
    await project.putText('a.md', 'one')
    const onDocumentChange = vi.fn<(change: DocumentChange) => void>()
    const { result } = renderHook(
      () => ({
        polling: useDocumentPolling({ interval: 30, onDocumentChange }),
        document: useDocument('a.md', { transport: 'poll' })
      }),
      { wrapper: wrapper() }
    )
    await waitFor(() => expect(result.current.document.synced).toBe(true))
    await act(() => result.current.polling.refetch())
    await project.putText('a.md', 'two')
    await waitFor(() => expect(textOf(result.current.document.doc)).toBe('two'))
    await waitFor(() => expect(onDocumentChange).toHaveBeenCalledOnce())
    const change = onDocumentChange.mock.calls[0]?.[0]
    expect(change).toMatchObject({ filePath: 'a.md', changeType: 'modified', version: 2 })
    expect(change?.lastModified).toBeInstanceOf(Date)
    expect(result.current.polling.data).toEqual([change])
  })
})

describe('useFiles', () => {
  test('lists the files, and keeps the list up to date', async () => {
    const { result } = renderHook(() => useFiles(), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data).toEqual([]))
    await act(() => result.current.put('b.md', 'b'))
    await waitFor(() => expect(result.current.data).toMatchObject([{ path: 'b.md', version: 1 }]))
    await act(() => result.current.refetch())
    await project.putText('a.md', 'of another')
    await waitFor(() => expect(result.current.data?.map((file) => file.path)).toEqual(['a.md', 'b.md']))
    await act(() => result.current.move('a.md', 'c.md'))
    await act(() => result.current.remove('b.md'))
    await waitFor(() => expect(result.current.data?.map((file) => file.path)).toEqual(['c.md']))
    expect((await project.allFiles()).map((file) => file.path)).toEqual(['c.md'])
  })

  test('shows what is done at once, and undoes it where it is refused', async () => {
    await project.putText('a.md', 'a')
    forbidden = (method) => method === 'DELETE'
    const { result } = renderHook(() => useFiles(), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data).toHaveLength(1))
    const refuse = hold()
    const refused = expect(result.current.remove('a.md')).rejects.toMatchObject({ status: 403 })
    await waitFor(() => expect(result.current.data).toEqual([]))
    refuse()
    await refused
    await waitFor(() => expect(result.current.data).toHaveLength(1))
    await waitFor(() => expect(result.current.error).toMatchObject({ status: 403 }))
  })
})

describe('useDocument', () => {
  test('is one live document for all who use a file', async () => {
    await project.putText('a.md', 'one')
    const { result } = renderHook(() => [useDocument('a.md'), useDocument('a.md')] as const, { wrapper: wrapper() })
    await waitFor(() => expect(result.current[0].synced).toBe(true))
    expect(result.current[0].doc).toBe(result.current[1].doc)
    act(() => result.current[0].doc?.getText('content').insert(3, ' two'))
    expect(result.current[1].unsaved).toBe(true)
    await waitFor(() => expect(result.current[1].unsaved).toBe(false))
    expect((await project.readText('a.md')).value).toBe('one two')
  })

  test('what was typed just before it is unmounted is stored all the same', async () => {
    const { result, unmount } = renderHook(() => useDocument('a.md'), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.synced).toBe(true))
    const doc = result.current.doc
    const destroyed = new Promise((resolve) => doc?.on('destroy', resolve))
    act(() => doc?.getText('content').insert(0, 'last words'))
    unmount()
    await destroyed
    expect((await project.readText('a.md')).value).toBe('last words')
  })

  test('says that its file was deleted, and can be opened anew', async () => {
    await project.putText('a.md', 'old')
    const { result } = renderHook(() => useDocument('a.md'), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.synced).toBe(true))
    await project.delete('a.md')
    await waitFor(() => expect(result.current.closed?.reason).toBe('deleted'))
    await project.putText('a.md', 'new')
    act(() => result.current.reopen())
    await waitFor(() => expect(textOf(result.current.doc)).toBe('new'))
    expect(result.current.closed).toBeNull()
  })

  test('goes from file to file with its path', async () => {
    await project.putText('a.md', 'A')
    await project.putText('b.md', 'B')
    const { result, rerender } = renderHook(({ path }) => useDocument(path), {
      wrapper: wrapper(),
      initialProps: { path: 'a.md' }
    })
    await waitFor(() => expect(textOf(result.current.doc)).toBe('A'))
    rerender({ path: 'b.md' })
    await waitFor(() => expect(textOf(result.current.doc)).toBe('B'))
  })

  test('of a path that is not valid is closed before anything is sent; with another path it opens', async () => {
    const sent: string[] = []
    forbidden = (_, path) => sent.push(path) === 0
    const { result, rerender } = renderHook(({ path }) => useDocument(path), {
      wrapper: wrapper(),
      initialProps: { path: '../../victim/files/a.md' }
    })
    expect(result.current).toMatchObject({ doc: null, closed: { reason: 'refused', error: { code: 'invalid_path' } } })
    expect(sent).toEqual([])
    rerender({ path: 'a.md' })
    await waitFor(() => expect(result.current).toMatchObject({ synced: true, closed: null }))
  })
})

test('a hook without <GatewayProvider> says what is missing', () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined)
  expect(() => renderHook(() => useFiles())).toThrow('<GatewayProvider>')
  vi.restoreAllMocks()
})
