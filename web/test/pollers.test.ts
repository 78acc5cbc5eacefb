import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GatewayClient } from '../src/client.js'
import type { StopReason } from '../src/policy.js'
import type { DocumentChange } from '../src/polling/changed-files.js'
import { DocumentPoller } from '../src/polling/document-poller.js'
import { PollingManager } from '../src/polling/manager.js'
import type { PollTransport } from '../src/polling/project-feed.js'
import { TurnPoller } from '../src/polling/turn-poller.js'
import { type Turn, TurnFailed } from '../src/turn.js'
import type { Block } from '../src/wire.js'
import { GatewayProcess } from './support/gateway.js'
import { Heard } from './support/until.js'

const gateway = new GatewayProcess()

beforeAll(async () => {
  await gateway.start()
})

afterAll(() => gateway.stop())

/** Call `hear` with one change at a time. */
function each(hear: (change: DocumentChange) => void): (changes: DocumentChange[]) => void {
  return (changes) => {
    for (const change of changes) hear(change)
  }
}

/** A short form of changes. */
function short(changes: DocumentChange[]): string[] {
  return changes.map(({ filePath, version, changeType }) => `${filePath} ${version} ${changeType}`)
}

describe.each<PollTransport>(['poll', 'long-poll', 'sse', 'auto'])('by %s', (transport) => {
  // With a stream or long poll, the interval is so long that only the stream can deliver changes in time.
  const interval = transport === 'poll' ? 20 : 600_000

  test('a turn is followed to its end: each block once, in order', async () => {
    const manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
    const project = gateway.project()
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Count')
    const heard = new Heard<[Turn, Block[]]>()
    const ends = new Heard<Turn>()
    const stops = new Heard<StopReason>()
    const poller = new TurnPoller(project, session.id, turn.id, {
      manager,
      transport,
      interval,
      onUpdate: (turn, blocks) => heard.hear([turn, blocks]),
      onComplete: ends.hear,
      onStop: stops.hear
    })
    await heard.until()
    for (const content of ['one', 'two', 'three']) {
      await project.appendBlocks(session.id, turn.id, [{ type: 'text', content }])
      await heard.until(([, blocks]) => blocks.some((block) => block.content === content))
    }
    await project.setTurnStatus(session.id, turn.id, 'completed')
    const end = await ends.until()
    expect(end.blocks.map((block) => block.content)).toEqual(['one', 'two', 'three'])
    expect(heard.all.flatMap(([, blocks]) => blocks.map((block) => block.index))).toEqual([0, 1, 2])
    expect(await stops.until()).toBe('completed')
    expect(poller.stopped).toBe('completed')
    poller.stop()
    expect(ends.all).toHaveLength(1)
  })

  test('the files of a project are followed from now on', async () => {
    const manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
    const project = gateway.project()
    await project.putText('before.md', 'not told')
    const heard = new Heard<DocumentChange>()
    const options = { manager, transport, interval, initial: false }
    const poller = new DocumentPoller(project, null, each(heard.hear), options)
    await poller.refresh()
    await project.putText('a.md', 'one')
    await heard.until((change) => change.filePath === 'a.md' && change.changeType === 'created')
    await project.putText('a.md', 'two')
    await heard.until((change) => change.version === 2 && change.changeType === 'modified')
    await project.delete('a.md')
    const last = await heard.until((change) => change.changeType === 'deleted')
    expect(last.lastModified).toBeInstanceOf(Date)
    expect(heard.all.map((change) => change.version)).toEqual([1, 2, 3])
    poller.stop()
  })
})

test('only the files asked for are told, and who comes later is not told of before', async () => {
  const manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
  const project = gateway.project()
  const heard = new Heard<DocumentChange>()
  const options = { manager, interval: 20, initial: false }
  const poller = new DocumentPoller(project, ['b.md', 'a.md'], each(heard.hear), options)
  await poller.refresh() // the project does not exist yet
  await project.putText('c.md', 'not asked for')
  await project.putText('a.md', 'one')
  await heard.until((change) => change.filePath === 'a.md')
  const late = new Heard<DocumentChange>()
  const other = new DocumentPoller(project, ['a.md', 'b.md'], each(late.hear), options)
  await project.putText('b.md', 'two')
  await late.until((change) => change.filePath === 'b.md')
  expect(late.all.map((change) => change.filePath)).toEqual(['b.md'])
  expect(heard.all.map((change) => change.filePath)).toEqual(['a.md', 'b.md'])
  poller.stop()
  other.stop()
})

test('where the feed cannot be followed it is polled, and followed again as soon as it can be', async () => {
  const settings = { idleStopMs: null, retryDelaysMs: [20], fastLoopMs: 0 }
  const manager = new PollingManager({ settings })
  const project = gateway.project()
  await project.putText('a.md', 'one')
  let broken = true
  const tries = new Heard<string>()
  const flaky: typeof fetch = async (input, init) => {
    const isFeed = String(input).includes('/changes') && !String(input).includes('kinds=file')
    if (isFeed) {
      tries.hear(broken ? 'broken' : 'well')
      if (broken) return new Response('', { status: 502 })
    }
    return fetch(input, init)
  }
  const behind = new GatewayClient(gateway.url, { fetch: flaky }).project(project.name)
  const heard = new Heard<DocumentChange>()
  const poller = new DocumentPoller(behind, null, each(heard.hear), { manager, transport: 'auto', interval: 20 })
  await tries.until()
  await project.putText('a.md', 'two')
  await heard.until((change) => change.version === 2)
  broken = false
  await tries.until((each) => each === 'well')
  await project.putText('a.md', 'three')
  await heard.until((change) => change.version === 3)
  poller.stop()
})

test('a turn that has failed is an error, and then complete; what there is not is absent', async () => {
  const manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
  const project = gateway.project()
  const session = await project.createSession()
  const turn = await project.createTurn(session.id, 'Fail')
  const heard = new Heard<[string, Turn | Error]>()
  const poller = new TurnPoller(project, session.id, turn.id, {
    manager,
    interval: 20,
    onUpdate: (turn) => heard.hear(['update', turn]),
    onError: (error) => heard.hear(['error', error]),
    onComplete: (turn) => heard.hear(['complete', turn])
  })
  const [, pending] = await heard.until()
  for (const member of ['error', 'started_at', 'completed_at']) expect(pending).not.toHaveProperty(member)
  expect(pending).toMatchObject({ status: 'pending', created_at: expect.any(Date), last_updated: expect.any(Date) })
  await project.setTurnStatus(session.id, turn.id, 'running')
  const [, running] = await heard.until(([, turn]) => 'status' in turn && turn.status === 'running')
  expect(running).toMatchObject({ started_at: expect.any(Date) })
  expect(running).not.toHaveProperty('completed_at')
  await project.setTurnStatus(session.id, turn.id, 'failed', { error: 'no more disk' })
  const [, last] = await heard.until(([what]) => what === 'complete')
  expect(last).toMatchObject({ status: 'failed', error: 'no more disk', completed_at: expect.any(Date) })
  const error = heard.all.at(-2)?.[1]
  expect(error).toBeInstanceOf(TurnFailed)
  expect(error).toMatchObject({ message: 'no more disk', turn: last })
  expect(heard.all.map(([what]) => what)).toEqual(['update', 'update', 'update', 'error', 'complete'])
  poller.stop()
})

describe('what exists when one begins', () => {
  const settings = { idleStopMs: null, fastLoopMs: 0 }

  test('is told as created, in one call; whoever comes later is told so too', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    await project.putText('a.md', 'one')
    await project.putText('a.md', 'two')
    await project.putText('b.md', 'one')
    await project.putText('gone.md', 'one')
    await project.delete('gone.md')
    const calls = new Heard<DocumentChange[]>()
    const poller = new DocumentPoller(project, null, calls.hear, { manager, interval: 20 })
    expect(short(await calls.until())).toEqual(['a.md 2 created', 'b.md 1 created'])
    await project.putText('b.md', 'two')
    await calls.until((changes) => changes.some((change) => change.version === 2 && change.filePath === 'b.md'))
    const late = new Heard<DocumentChange[]>()
    const other = new DocumentPoller(project, null, late.hear, { manager, interval: 20 })
    expect(short(await late.until()).sort()).toEqual(['a.md 2 created', 'b.md 2 created'])
    expect(calls.all.map(short)).toEqual([['a.md 2 created', 'b.md 1 created'], ['b.md 2 modified']])
    poller.stop()
    other.stop()
  })

  test('is more than a page of the feed and still one call', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    const update = new Uint8Array([1, 1, 1, 0, 4, 1, 7, 99, 111, 110, 116, 101, 110, 116, 1, 120, 0])
    const paths = Array.from({ length: 1_100 }, (_, index) => `${String(index).padStart(4, '0')}.md`)
    await project.sync(Object.fromEntries(paths.map((path) => [path, update])))
    const calls = new Heard<DocumentChange[]>()
    const poller = new DocumentPoller(project, null, calls.hear, { manager, interval: 20 })
    expect((await calls.until()).map((change) => change.filePath).sort()).toEqual(paths)
    poller.stop()
  })

  test('of a few paths among many is only theirs', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    for (const path of ['a.md', 'b.md', 'c.md']) await project.putText(path, 'one')
    const many = ['c.md', 'a.md', ...Array.from({ length: 30 }, (_, index) => `none${index}.md`)]
    for (const paths of [['c.md', 'a.md'], many]) {
      const calls = new Heard<DocumentChange[]>()
      const poller = new DocumentPoller(project, paths, calls.hear, { manager, interval: 20 })
      expect(short(await calls.until())).toEqual(['a.md 1 created', 'c.md 1 created'])
      poller.stop()
    }
  })

  test('is nothing in a project that does not exist; it is told of as soon as it does', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    for (const initial of [true, false]) {
      const calls = new Heard<DocumentChange[]>()
      const other = gateway.project(`${project.name}-${initial}`)
      const poller = new DocumentPoller(other, null, calls.hear, { manager, interval: 20, initial })
      await poller.refresh()
      expect(calls.all).toEqual([])
      await other.putText('a.md', 'one')
      expect(short(await calls.until())).toEqual(['a.md 1 created'])
      poller.stop()
    }
  })

  test('is passed over from a cursor on', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    const { value: receipt } = await project.putText('a.md', 'one')
    await project.putText('a.md', 'two')
    const calls = new Heard<DocumentChange[]>()
    const poller = new DocumentPoller(project, null, calls.hear, { manager, interval: 20, since: receipt.cursor })
    expect(short(await calls.until())).toEqual(['a.md 2 modified'])
    poller.stop()
  })
})

test('every poll of files after the first is conditional; where nothing is new the answer is 304', async () => {
  const project = gateway.project()
  await project.putText('a.md', 'one')
  const answers = new Heard<[number, string | null]>()
  const noting: typeof fetch = async (input, init) => {
    const answer = await fetch(input, init)
    answers.hear([answer.status, new Headers(init?.headers).get('If-None-Match')])
    return answer
  }
  const manager = new PollingManager({ settings: { idleStopMs: null, fastLoopMs: 0 } })
  const calls = new Heard<DocumentChange[]>()
  const watched = new GatewayClient(gateway.url, { fetch: noting }).project(project.name)
  const poller = new DocumentPoller(watched, null, calls.hear, { manager, interval: 20 })
  await answers.until(([status]) => status === 304)
  await project.putText('a.md', 'two')
  await calls.until((changes) => changes[0]?.version === 2)
  const [first, ...others] = answers.all
  expect(first).toEqual([200, null])
  for (const [, tag] of others) expect(tag).not.toBeNull()
  poller.stop()
})
