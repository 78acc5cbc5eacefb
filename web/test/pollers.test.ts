import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { type DocumentChange, DocumentPoller } from '../src/document-poller.js'
import { PollingManager } from '../src/manager.js'
import type { StopReason } from '../src/policy.js'
import type { PollTransport } from '../src/project-feed.js'
import { TurnPoller } from '../src/turn-poller.js'
import type { Block, Turn } from '../src/wire.js'
import { GatewayProcess } from './support/gateway.js'
import { Heard } from './support/until.js'

const gateway = new GatewayProcess()

beforeAll(async () => {
  await gateway.start()
})

afterAll(() => gateway.stop())

describe.each<PollTransport>(['poll', 'long-poll', 'sse', 'auto'])('by %s', (transport) => {
  // Where something holds, the interval is so long that only what is held can bring news in time.
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
    const poller = new DocumentPoller(project, null, heard.hear, { manager, transport, interval })
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
  const poller = new DocumentPoller(project, ['b.md', 'a.md'], heard.hear, { manager, interval: 20 })
  await poller.refresh() // the project does not exist yet
  await project.putText('c.md', 'not asked for')
  await project.putText('a.md', 'one')
  await heard.until((change) => change.filePath === 'a.md')
  const late = new Heard<DocumentChange>()
  const other = new DocumentPoller(project, ['a.md', 'b.md'], late.hear, { manager, interval: 20 })
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
    if (String(input).includes('/changes')) {
      tries.hear(broken ? 'broken' : 'well')
      if (broken) return new Response('', { status: 502 })
    }
    return fetch(input, init)
  }
  const behind = new GatewayClient(gateway.url, { fetch: flaky }).project(project.name)
  const heard = new Heard<DocumentChange>()
  const poller = new DocumentPoller(behind, null, heard.hear, { manager, transport: 'auto', interval: 20 })
  await tries.until()
  await project.putText('a.md', 'two')
  await heard.until((change) => change.version === 2)
  broken = false
  await tries.until((each) => each === 'well')
  await project.putText('a.md', 'three')
  await heard.until((change) => change.version === 3)
  poller.stop()
})
