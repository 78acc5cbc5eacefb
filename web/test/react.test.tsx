// @vitest-environment jsdom
import { QueryClient } from '@tanstack/react-query'
import { act, cleanup, configure, renderHook, waitFor } from '@testing-library/react'
import { type ReactNode, StrictMode } from 'react'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type * as Y from 'yjs'
import { GatewayClient } from '../src/client.js'
import { PollingManager } from '../src/polling/manager.js'
import type { PollTransport } from '../src/polling/project-feed.js'
import type { Project } from '../src/project.js'
import {
  type DocumentChange,
  filesQuery,
  GatewayProvider,
  gatewayKeys,
  historyQuery,
  sessionsQuery,
  type Turn,
  TurnFailed,
  textQuery,
  turnQuery,
  turnsQuery,
  useAwareness,
  useConnection,
  useDocument,
  useDocumentPolling,
  useFiles,
  useSessionPolling,
  useSessions,
  useTurn,
  useTurns
} from '../src/react/index.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

const NO_RETRIES = { defaultOptions: { queries: { retry: false } } }

configure({ asyncUtilTimeout: PATIENCE.timeout })

const gateway = new GatewayProcess()
let manager: PollingManager
let project: Project
/** Selects the requests that the gateway refuses as forbidden. */
let forbidden: (method: string, path: string) => boolean
/** Resolves when the refusals are to be sent. */
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
  // After unmounting, the manager does not poll: every hook has unsubscribed.
  await waitFor(() => expect(manager.suspended).toBe(true))
})

afterAll(() => gateway.stop())

function wrapper(queryClient = new QueryClient(NO_RETRIES)): (props: { children: ReactNode }) => ReactNode {
  const client = new GatewayClient(gateway.url, { fetch: guarded })
  const props = { client, project: project.name, manager, transport, queryClient }
  return ({ children }) => (
    <StrictMode>
      <GatewayProvider {...props}>{children}</GatewayProvider>
    </StrictMode>
  )
}

/** Delay refusals until the returned function is called. */
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
    expect(manager.suspended).toBe(true)
  })

  test('without a turn follows nothing, and neither when it is held still; what it knew is gone', async () => {
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Count')
    const { result, rerender } = renderHook((props) => useSessionPolling({ sessionId: session.id, ...props }), {
      wrapper: wrapper(),
      initialProps: {} as { turnId?: string | undefined; enabled?: boolean }
    })
    expect(result.current).toMatchObject({ data: undefined, isPolling: false, error: null })
    expect(manager.suspended).toBe(true)
    rerender({ turnId: turn.id })
    await waitFor(() => expect(result.current.data?.id).toBe(turn.id))
    rerender({ turnId: turn.id, enabled: false })
    expect(result.current).toMatchObject({ data: undefined, isPolling: false })
    rerender({ turnId: turn.id })
    expect(result.current.data?.id).toBe(turn.id)
    rerender({})
    expect(result.current).toMatchObject({ data: undefined, isPolling: false })
    expect(manager.suspended).toBe(true)
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
    expect(manager.suspended).toBe(true)
    rerender({ enabled: true })
    await waitFor(() => expect(result.current.error).toMatchObject({ status: 403 }))
    expect(onError).toHaveBeenCalledWith(result.current.error)
    expect(result.current.isPolling).toBe(false)
    forbidden = () => false
    await act(() => result.current.refetch())
    await waitFor(() => expect(result.current).toMatchObject({ error: null, isPolling: true }))
    expect(result.current.data?.id).toBe(turn.id)
  })

  test('of a turn that fails is told an error, and then that it is complete', async () => {
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Fail')
    const told: [string, unknown][] = []
    const options = {
      sessionId: session.id,
      turnId: turn.id,
      onError: (error: Error) => told.push(['error', error]),
      onComplete: (turn: Turn) => told.push(['complete', turn])
    }
    const { result } = renderHook(() => useSessionPolling(options), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data?.status).toBe('pending'))
    expect(result.current.data).not.toHaveProperty('started_at')
    await project.setTurnStatus(session.id, turn.id, 'failed', { error: 'no more disk' })
    await waitFor(() => expect(told.map(([what]) => what)).toEqual(['error', 'complete']))
    const ended = result.current.data
    expect(ended).toMatchObject({ status: 'failed', error: 'no more disk', completed_at: expect.any(Date) })
    expect(told[0]?.[1]).toBeInstanceOf(TurnFailed)
    expect(told[0]?.[1]).toMatchObject({ message: 'no more disk', turn: ended })
    expect(told[1]?.[1]).toEqual(ended)
    expect(result.current).toMatchObject({ isPolling: false, error: told[0]?.[1] })
  })

  test.each(['project', 'turn'] as const)(
    'asks again when the cache is told that its %s is not valid',
    async (what) => {
      transport = 'poll'
      const session = await project.createSession()
      const turn = await project.createTurn(session.id, 'Count')
      const queryClient = new QueryClient()
      const options = { sessionId: session.id, turnId: turn.id, interval: 600_000 }
      manager = new PollingManager({ settings: { activeIntervalMs: 600_000, cacheMs: 0 } })
      const { result } = renderHook(() => useSessionPolling(options), { wrapper: wrapper(queryClient) })
      await waitFor(() => expect(result.current.data?.status).toBe('pending'))
      for (const status of ['running', 'completed'] as const) {
        await project.setTurnStatus(session.id, turn.id, status)
        const own = new GatewayClient(gateway.url).project(project.name)
        const queryKey = { project: gatewayKeys.project(own), turn: gatewayKeys.turn(own, session.id, turn.id) }[what]
        await act(() => queryClient.invalidateQueries({ queryKey }))
        await waitFor(() => expect(result.current.data?.status).toBe(status))
      }
      await waitFor(() => expect(result.current.isPolling).toBe(false))
    }
  )
})

describe('useTurn', () => {
  test('follows the newest turn of the session', async () => {
    const session = await project.createSession()
    const { result } = renderHook(() => useTurn(session.id, { interval: 30 }), { wrapper: wrapper() })
    expect(result.current.data).toBeUndefined()
    const first = await project.createTurn(session.id, 'First')
    await waitFor(() => expect(result.current.data?.id).toBe(first.id))
    await project.setTurnStatus(session.id, first.id, 'cancelled')
    await waitFor(() => expect(result.current.data?.status).toBe('cancelled'))
    const second = await project.createTurn(session.id, 'Second')
    await waitFor(() => expect(result.current.data?.id).toBe(second.id))
    await waitFor(() => expect(result.current.isPolling).toBe(true))
  })

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
    await waitFor(() => expect(result.current.data?.status).toBe('cancelled')) // a poll may have been in flight
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
    await project.putText('b.md', 'one')
    const onDocumentChange = vi.fn<(changes: DocumentChange[]) => void>()
    const { result } = renderHook(
      () => ({
        polling: useDocumentPolling({ interval: 30, onDocumentChange }),
        document: useDocument('a.md', { transport: 'poll' })
      }),
      { wrapper: wrapper() }
    )
    await waitFor(() => expect(result.current.document.synced).toBe(true))
    await waitFor(() => expect(onDocumentChange).toHaveBeenCalledOnce())
    const existing = onDocumentChange.mock.calls[0]?.[0] ?? []
    expect(existing).toMatchObject([
      { filePath: 'a.md', changeType: 'created', version: 1, lastModified: expect.any(Date) },
      { filePath: 'b.md', changeType: 'created', version: 1, lastModified: expect.any(Date) }
    ])
    await project.putText('a.md', 'two')
    await waitFor(() => expect(textOf(result.current.document.doc)).toBe('two'))
    await waitFor(() => expect(onDocumentChange).toHaveBeenCalledTimes(2))
    const changes = onDocumentChange.mock.calls[1]?.[0] ?? []
    expect(changes).toMatchObject([{ filePath: 'a.md', changeType: 'modified', version: 2 }])
    await waitFor(() => expect(result.current.polling.data).toEqual([existing[1], changes[0]]))
  })

  test('tells only of changes where what exists is not asked for', async () => {
    transport = 'poll'
    await project.putText('a.md', 'one')
    const onDocumentChange = vi.fn<(changes: DocumentChange[]) => void>()
    const options = { interval: 30, initial: false, onDocumentChange }
    const { result } = renderHook(() => useDocumentPolling(options), { wrapper: wrapper() })
    await act(() => result.current.refetch())
    await project.putText('b.md', 'one')
    await waitFor(() => expect(onDocumentChange).toHaveBeenCalledOnce())
    expect(onDocumentChange.mock.calls[0]?.[0]).toMatchObject([{ filePath: 'b.md', changeType: 'created' }])
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
    const shown: (string[] | undefined)[] = []
    const use = () => {
      const files = useFiles()
      shown.push(files.data?.map(({ path }) => path))
      return files
    }
    const { result } = renderHook(use, { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data).toHaveLength(1))
    const refuse = hold()
    const refused = expect(result.current.remove('a.md')).rejects.toMatchObject({ status: 403 })
    await waitFor(() => expect(shown).toContainEqual([])) // the list may be read again before the refusal
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

describe('useTurns', () => {
  test('is the conversation: every turn with its blocks, oldest first, the newest followed', async () => {
    const session = await project.createSession()
    const first = await project.createTurn(session.id, 'One')
    await project.appendBlocks(session.id, first.id, [{ type: 'text', content: 'a' }])
    await project.setTurnStatus(session.id, first.id, 'completed')
    const { result } = renderHook(() => useTurns(session.id), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data?.map(({ blocks }) => blocks.length)).toEqual([1]))
    let second: Turn | undefined
    await act(async () => {
      second = await result.current.create('Two')
    })
    await waitFor(() => expect(result.current.data?.map(({ prompt }) => prompt)).toEqual(['One', 'Two']))
    await project.appendBlocks(session.id, second?.id ?? '', [{ type: 'text', content: 'b' }])
    await waitFor(() =>
      expect(result.current.data?.flatMap(({ blocks }) => blocks.map(({ content }) => content))).toEqual(['a', 'b'])
    )
    await project.setTurnStatus(session.id, second?.id ?? '', 'completed')
    const third = await project.createTurn(session.id, 'Three')
    await waitFor(() => expect(result.current.data?.map(({ id }) => id)).toEqual([first.id, second?.id, third.id]))
    expect(result.current.data?.[1]?.status).toBe('completed')
  })

  test('shows older ones by pages', async () => {
    const session = await project.createSession()
    for (const prompt of ['1', '2', '3']) {
      const { id } = await project.createTurn(session.id, prompt)
      await project.setTurnStatus(session.id, id, 'cancelled')
    }
    const { result } = renderHook(() => useTurns(session.id, { pageSize: 2 }), { wrapper: wrapper() })
    const prompts = () => result.current.data?.map(({ prompt }) => prompt)
    await waitFor(() => expect(prompts()).toEqual(['2', '3']))
    expect(result.current.hasMore).toBe(true)
    act(() => result.current.showMore())
    await waitFor(() => expect(prompts()).toEqual(['1', '2', '3']))
    expect(result.current.hasMore).toBe(false)
  })
})

describe('useSessions', () => {
  test('lists sessions, newest first: those of a project that comes into being, those made here and elsewhere', async () => {
    const { result } = renderHook(() => useSessions({ interval: 100 }), { wrapper: wrapper() })
    const titles = () => result.current.data?.map(({ title }) => title)
    await waitFor(() => expect(titles()).toEqual([]))
    await act(() => result.current.create('Here'))
    await waitFor(() => expect(titles()).toEqual(['Here']))
    const { id } = await project.createSession('There')
    await project.createTurn(id, 'One')
    await waitFor(() => expect(titles()).toEqual(['There', 'Here']))
  })
})

describe('useAwareness and useConnection', () => {
  test('tell who is in a file, and how it stands', async () => {
    await project.putText('a.md', 'text')
    const use = () => {
      const { provider } = useDocument('a.md')
      return { provider, connection: useConnection(provider), ...useAwareness<{ name: string }>(provider) }
    }
    const one = renderHook(use, { wrapper: wrapper() })
    const other = renderHook(use, { wrapper: wrapper() })
    await waitFor(() => expect(one.result.current.connection).toMatchObject({ status: 'connected', synced: true }))
    await waitFor(() => expect(other.result.current.provider).not.toBeNull())
    act(() => other.result.current.setField('name', 'Zoë'))
    expect(other.result.current.local).toEqual({ name: 'Zoë' })
    await waitFor(() => expect(one.result.current.others.map(({ state }) => state)).toEqual([{ name: 'Zoë' }]))
    other.unmount()
    await waitFor(() => expect(one.result.current.others).toEqual([]))
    await project.delete('a.md')
    await waitFor(() => expect(one.result.current.connection.closed?.reason).toBe('deleted'))
  })

  test('without a provider there is nobody, and nothing is connected', () => {
    const { result } = renderHook(() => [useAwareness(null), useConnection(null)] as const, { wrapper: wrapper() })
    expect(result.current).toMatchObject([
      { others: [], local: null },
      { status: 'disconnected', synced: false, closed: null }
    ])
  })
})

describe('writes of useFiles', () => {
  test('keep what others have written, with the version that the text was made of', async () => {
    await project.putText('a.md', 'one\n')
    await project.putText('a.md', 'zero\none\n')
    const { result } = renderHook(() => useFiles(), { wrapper: wrapper() })
    await waitFor(() => expect(result.current.data).toHaveLength(1))
    await act(() => result.current.put('a.md', 'one\ntwo\n', { baseVersion: 1 }))
    expect((await project.readText('a.md')).value).toBe('zero\none\ntwo\n')
    await act(() => result.current.edit('a.md', (text) => text.toUpperCase()))
    expect((await project.readText('a.md')).value).toBe('ZERO\nONE\nTWO\n')
    const put = () => result.current.put('a.md', 'lost', { ifMatch: '1.1' })
    await act(() => expect(put()).rejects.toMatchObject({ code: 'precondition_failed' }))
  })
})

describe('queries', () => {
  test('bring what they say', async () => {
    const { value } = await project.putText('a.md', 'one')
    const session = await project.createSession('Talk')
    const turn = await project.createTurn(session.id, 'One')
    const client = new QueryClient(NO_RETRIES)
    expect((await client.fetchQuery(filesQuery(project))).map(({ path }) => path)).toEqual(['a.md'])
    expect((await client.fetchQuery(textQuery(project, 'a.md'))).value).toBe('one')
    expect((await client.fetchQuery(historyQuery(project, 'a.md'))).versions).toHaveLength(value.version)
    expect((await client.fetchQuery(sessionsQuery(project))).map(({ title }) => title)).toEqual(['Talk'])
    expect((await client.fetchQuery(turnsQuery(project, session.id))).map(({ id }) => id)).toEqual([turn.id])
    expect(await client.fetchQuery(turnQuery(project, session.id, turn.id))).toMatchObject({ id: turn.id, blocks: [] })
    expect(client.getQueryData(gatewayKeys.turn(project, session.id, turn.id))).toBeDefined()
    expect(await client.fetchQuery(filesQuery(gateway.project()))).toEqual([])
  })
})
