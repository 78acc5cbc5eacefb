import { type QueryClient, queryOptions, useQuery } from '@tanstack/react-query'
import { expectTypeOf, test } from 'vitest'
import type { Awareness } from 'y-protocols/awareness'
import type * as Y from 'yjs'
import type {
  DocumentChange,
  FileEntry,
  Project,
  Receipt,
  SyncAnswer,
  Turn,
  TurnAnswer,
  WithETag
} from '../src/index.js'
import { GatewayClient, isProblem, type ProblemAnswer } from '../src/index.js'
import { HttpProvider } from '../src/provider/index.js'
import { filesQuery, textQuery, turnQuery } from '../src/queries/index.js'
import { type LiveDocument, useDocumentPolling, useSessionPolling } from '../src/react/index.js'

const project: Project = new GatewayClient('').project('p')

test('requests say what they take and give', () => {
  expectTypeOf(project.putText('a', '')).resolves.toEqualTypeOf<WithETag<Receipt>>()
  expectTypeOf(project.readTurn('s', 't')).resolves.toEqualTypeOf<WithETag<TurnAnswer | null>>()
  expectTypeOf(project.sync()).resolves.toEqualTypeOf<SyncAnswer>()
  // @ts-expect-error: not a status of a turn
  void project.setTurnStatus('s', 't', 'done')
  // @ts-expect-error: a client passes versions, not tags
  void project.status({ versions: { 'a.md': 'v1' } })
})

test('a problem is told by its code', () => {
  const error: unknown = null
  if (isProblem(error, 'file_deleted')) expectTypeOf(error).toExtend<ProblemAnswer>()
  // @ts-expect-error: no problem has this code
  isProblem(error, 'file_lost')
})

test('events of a provider have their arguments', () => {
  expectTypeOf<HttpProvider['synced']>().toEqualTypeOf<boolean>()
  const listen = (provider: HttpProvider) => {
    provider.on('status', ({ status }) => expectTypeOf(status).toEqualTypeOf<HttpProvider['status']>())
    provider.on('connection-close', ({ reason }) => expectTypeOf(reason).toExtend<string>())
    provider.on('synced', (synced) => expectTypeOf(synced).toEqualTypeOf<boolean>())
    // @ts-expect-error: there is no such event
    provider.on('saved', () => undefined)
  }
  expectTypeOf(listen).toBeFunction()
  expectTypeOf<HttpProvider['awareness']>().toEqualTypeOf<Awareness>()
  const make = (doc: Y.Doc) => [
    new HttpProvider('', 'p', 'a.md', doc, { transport: 'sse' }),
    new HttpProvider({ url: '', project: 'p', path: 'a.md', doc, transport: 'sse' }),
    new HttpProvider({ url: '', project: 'p', path: 'a.md' }),
    // @ts-expect-error: a document belongs to a project
    new HttpProvider({ url: '', path: 'a.md' })
  ]
  expectTypeOf(make).toBeFunction()
})

test('hooks have the names and shapes that applications were written against', () => {
  expectTypeOf(useSessionPolling).toBeCallableWith({
    sessionId: 's',
    turnId: 't',
    enabled: true,
    interval: 2_000,
    onUpdate: (turn: Turn) => void turn.blocks,
    onComplete: (turn: Turn) => void turn.status,
    onError: (error: Error) => void error.message
  })
  expectTypeOf<ReturnType<typeof useSessionPolling>['data']>().toEqualTypeOf<Turn | undefined>()
  expectTypeOf<ReturnType<typeof useSessionPolling>['refetch']>().returns.resolves.toBeVoid()
  expectTypeOf(useDocumentPolling).toBeCallableWith({
    projectId: 'p',
    filePaths: ['a.md'],
    enabled: true,
    interval: 3_000,
    onDocumentChange: (changes: DocumentChange[]) =>
      void changes.map(({ filePath, lastModified, changeType }) => [
        filePath.length,
        lastModified.getTime(),
        changeType === 'created'
      ])
  })
  expectTypeOf<LiveDocument['synced']>().toEqualTypeOf<boolean>()
})

test('queries are what TanStack Query takes', () => {
  const use = (project: Project, client: QueryClient) => {
    expectTypeOf(client.fetchQuery(filesQuery(project))).resolves.toEqualTypeOf<FileEntry[]>()
    expectTypeOf(client.fetchQuery(queryOptions(turnQuery(project, 's', 't')))).resolves.toEqualTypeOf<Turn>()
    expectTypeOf(useQuery({ ...textQuery(project, 'a.md'), select: ({ value }) => value.length }).data).toEqualTypeOf<
      number | undefined
    >()
  }
  expectTypeOf(use).toBeFunction()
})
