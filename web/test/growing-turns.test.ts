// @vitest-environment jsdom
import { QueryClient } from '@tanstack/react-query'
import { cleanup, configure, renderHook, waitFor } from '@testing-library/react'
import { createElement, type ReactNode } from 'react'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { PollingManager } from '../src/polling/manager.js'
import type { PollTransport } from '../src/polling/project-feed.js'
import { TurnPoller } from '../src/polling/turn-poller.js'
import { GatewayProvider, useSessionPolling } from '../src/react/index.js'
import type { Turn } from '../src/turn.js'
import type { Block } from '../src/wire.js'
import { GatewayProcess } from './support/gateway.js'
import { Heard, PATIENCE } from './support/until.js'

configure({ asyncUtilTimeout: PATIENCE.timeout })

/** A small limit, so that a turn of a few thousand characters takes several answers. */
const gateway = new GatewayProcess({ GATEWAY_TURN_ANSWER_BYTES: '1024' })
const settings = { idleStopMs: null, fastLoopMs: 0 }

beforeAll(async () => {
  await gateway.start()
})

afterEach(cleanup)

afterAll(() => gateway.stop())

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

/** A piece of the text of a message that is still being written. */
function delta(text: string, index = 0): string {
  const event = { type: 'content_block_delta', index, delta: { type: 'text_delta', text } }
  return line({ type: 'stream_event', event, parent_tool_use_id: null })
}

const START = line({ type: 'stream_event', event: { type: 'message_start' }, parent_tool_use_id: null })

/** The complete message; it may differ from its pieces. */
function whole(text: string): string {
  return line({ type: 'assistant', message: { content: [{ type: 'text', text }] }, parent_tool_use_id: null })
}

function contents(turn: Turn): unknown[] {
  return turn.blocks.map((block) => block.content)
}

describe.each<PollTransport>(['poll', 'auto'])('by %s', (transport) => {
  const interval = transport === 'poll' ? 20 : 600_000

  test('a block that grows takes the place of what was known of it, and is told each time', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Speak')
    const output = (text: string, final = false) => project.appendOutput(session.id, turn.id, text, { final })
    const heard = new Heard<[Turn, Block[]]>()
    const ends = new Heard<Turn>()
    const poller = new TurnPoller(project, session.id, turn.id, {
      manager,
      transport,
      interval,
      onUpdate: (turn, blocks) => heard.hear([turn, blocks]),
      onComplete: ends.hear
    })
    await output(whole('before') + START + delta('one'))
    const [first] = await heard.until(([turn]) => turn.blocks.length === 2)
    await output(delta(' two'))
    const [second, told] = await heard.until(([turn]) => contents(turn)[1] === 'one two')
    expect(told.map((block) => [block.index, block.content])).toEqual([[1, 'one two']])
    expect(second.blocks.map((block) => block.id)).toEqual(first.blocks.map((block) => block.id))
    expect(second.blocks[0]).toBe(first.blocks[0])
    expect(contents(first)).toEqual(['before', 'one'])
    await output(whole('One, two.'))
    await heard.until(([turn]) => contents(turn)[1] === 'One, two.')
    await output(line({ type: 'result', subtype: 'success', is_error: false }), true)
    const end = await ends.until()
    expect(contents(end).slice(0, 2)).toEqual(['before', 'One, two.'])
    expect(end.blocks.map((block) => block.type)).toEqual(['text', 'text', 'result'])
    expect(end.status).toBe('completed')
    poller.stop()
  })

  test('a turn of several answers is told in one piece, also where its blocks still grow', async () => {
    const manager = new PollingManager({ settings })
    const project = gateway.project()
    const session = await project.createSession()
    const turn = await project.createTurn(session.id, 'Speak at length')
    const output = (text: string, final = false) => project.appendOutput(session.id, turn.id, text, { final })
    const long = Array.from({ length: 12 }, (_, index) => `${index} `.repeat(300))
    await output(long.map(whole).join('') + START + delta('x'.repeat(3_000), 0) + delta('y'.repeat(3_000), 1))
    const heard = new Heard<Turn>()
    const ends = new Heard<Turn>()
    const options = { manager, transport, interval, onUpdate: heard.hear, onComplete: ends.hear }
    const poller = new TurnPoller(project, session.id, turn.id, options)
    const expected = [...long, 'x'.repeat(3_000), 'y'.repeat(3_000)]
    expect(contents(await heard.until())).toEqual(expected)
    await output(delta('z', 0) + whole('short'))
    await heard.until((turn) => contents(turn)[12] === 'short')
    await output(whole('w'.repeat(5_000)), true)
    expect(contents(await ends.until())).toEqual([...long, 'short', 'w'.repeat(5_000)])
    for (const told of heard.all) expect(told.blocks).toHaveLength(14)
    poller.stop()
  })
})

test('the answer of a long turn says that there is more, and has no tag until it is all', async () => {
  const project = gateway.project()
  const session = await project.createSession()
  const turn = await project.createTurn(session.id, 'Speak at length')
  const blocks = Array.from({ length: 5 }, (_, index) => ({ type: 'text' as const, content: `${index}`.repeat(700) }))
  await project.appendBlocks(session.id, turn.id, blocks)
  const read: unknown[] = []
  for (let answers = 1; ; answers += 1) {
    const { value, tag } = await project.readTurn(session.id, turn.id, { afterBlock: read.length })
    read.push(...(value?.blocks ?? []).map((block) => block.content))
    expect(tag === null).toBe(value?.more === true)
    if (value?.more !== true) {
      expect(answers).toBeGreaterThan(1)
      break
    }
  }
  expect(read).toEqual(blocks.map((block) => block.content))
})

test('a list says where it has only the beginning of a prompt; the turn has all of it', async () => {
  const project = gateway.project()
  const session = await project.createSession()
  const long = await project.createTurn(session.id, 'p'.repeat(1_001))
  const short = await project.createTurn(session.id, 'p'.repeat(1_000))
  const { turns } = await project.listTurns(session.id)
  expect(turns.map(({ id, prompt, prompt_cut }) => [id, prompt.length, prompt_cut])).toEqual([
    [short.id, 1_000, undefined],
    [long.id, 1_000, true]
  ])
  const { value } = await project.readTurn(session.id, long.id)
  expect(value?.prompt).toBe('p'.repeat(1_001))
  expect(value).not.toHaveProperty('prompt_cut')
})

test('the hook shows a block as it grows, and a turn of several answers whole', async () => {
  const manager = new PollingManager({ settings })
  const project = gateway.project()
  const session = await project.createSession()
  const turn = await project.createTurn(session.id, 'Speak')
  const output = (text: string) => project.appendOutput(session.id, turn.id, text, { final: false })
  const queryClient = new QueryClient({ defaultOptions: { queries: { retry: false } } })
  const client = new GatewayClient(gateway.url)
  const provided = { client, project: project.name, manager, transport: 'auto' as const, queryClient }
  const wrapper = ({ children }: { children: ReactNode }) => createElement(GatewayProvider, provided, children)
  const { result } = renderHook(() => useSessionPolling({ sessionId: session.id, turnId: turn.id }), { wrapper })
  const shown = () => result.current.data?.blocks.map((block) => block.content)
  await output(START + delta('one'))
  await waitFor(() => expect(shown()).toEqual(['one']))
  await output(delta(' two'))
  await waitFor(() => expect(shown()).toEqual(['one two']))
  const long = ['a', 'b', 'c'].map((letter) => letter.repeat(900))
  await output(whole('One, two.') + long.map(whole).join(''))
  await waitFor(() => expect(shown()).toEqual(['One, two.', ...long]))
  await project.setTurnStatus(session.id, turn.id, 'cancelled')
  await waitFor(() => expect(result.current.isPolling).toBe(false))
  expect(shown()).toEqual(['One, two.', ...long])
})
