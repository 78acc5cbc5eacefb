// @vitest-environment jsdom
/** The example components of the specification compile unchanged and behave as specified. */
import { cleanup, render, waitFor } from '@testing-library/react'
import { type FunctionComponent, useState } from 'react'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { PollingManager } from '../src/polling/manager.js'
import type { Project } from '../src/project.js'
import { GatewayProvider, TurnFailed } from '../src/react/index.js'
import { ChatInterface } from './examples/chat-interface.js'
import { DocumentExplorer } from './examples/document-explorer.js'
import { manage } from './examples/shapes.js'
import { surround } from './examples/surroundings.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

// The examples keep the id of the turn in a state that only they can set; here it is the first state of all.
let firstTurn: string | undefined
vi.mock('react', async (original) => {
  const react = await original<typeof import('react')>()
  return { ...react, useState: vi.fn(react.useState) }
})

const gateway = new GatewayProcess()
let manager: PollingManager
let project: Project

beforeAll(async () => {
  await gateway.start()
})

beforeEach(() => {
  manager = new PollingManager({ settings: { activeIntervalMs: 20, idleStopMs: null, fastLoopMs: 0 } })
  project = gateway.project()
})

afterEach(() => {
  cleanup()
  vi.restoreAllMocks()
})

afterAll(() => gateway.stop())

function show(Example: FunctionComponent) {
  return render(
    <GatewayProvider client={new GatewayClient(gateway.url)} project={project.name} manager={manager} transport="poll">
      <Example />
    </GatewayProvider>
  )
}

/** Render the chat with a turn that it follows. */
async function chat() {
  const session = await project.createSession()
  const turn = await project.createTurn(session.id, 'Count')
  surround(session.id, project.name)
  firstTurn = turn.id
  const real = vi.mocked(useState).getMockImplementation() as typeof useState
  vi.mocked(useState).mockImplementation(((initial: unknown) => {
    const begins = initial === undefined ? firstTurn : initial
    return real(begins)
  }) as typeof useState)
  return { session: session.id, turn: turn.id, page: show(ChatInterface) }
}

test('a chat shows blocks as they arrive, and lets go of the turn when it is complete', async () => {
  const { session, turn, page } = await chat()
  await waitFor(() => expect(page.container.querySelector('progress')).not.toBeNull(), PATIENCE)
  for (const content of ['one', 'two']) {
    await project.appendBlocks(session, turn, [{ type: 'text', content }])
    await page.findByText(content, {}, PATIENCE)
  }
  await project.setTurnStatus(session, turn, 'completed')
  await waitFor(() => expect(page.container.innerHTML).toBe('<div></div>'), PATIENCE)
  expect(manager.suspended).toBe(true)
})

test('a chat tells of a turn that fails', async () => {
  const told = vi.spyOn(console, 'error').mockReturnValue(undefined)
  const { session, turn, page } = await chat()
  await waitFor(() => expect(page.container.querySelector('progress')).not.toBeNull(), PATIENCE)
  await project.setTurnStatus(session, turn, 'running')
  await project.setTurnStatus(session, turn, 'failed', { error: 'no more disk' })
  await waitFor(() => expect(page.container.innerHTML).toBe('<div></div>'), PATIENCE)
  expect(told).toHaveBeenCalledWith('Turn failed:', expect.any(TurnFailed))
})

test('an explorer is told of what exists and of what changes', async () => {
  await project.putText('a.md', 'one')
  surround('', project.name)
  const told = vi.spyOn(Array.prototype, 'forEach')
  const changes = () =>
    told.mock.contexts
      .flatMap((each) => each as { filePath?: string; changeType?: string }[])
      .filter((each) => each?.filePath !== undefined)
      .map((each) => `${each.filePath} ${each.changeType}`)
  show(DocumentExplorer)
  await waitFor(() => expect(changes()).toEqual(['a.md created']), PATIENCE)
  await project.putText('a.md', 'two')
  await waitFor(() => expect(changes()).toEqual(['a.md created', 'a.md modified']), PATIENCE)
  await project.delete('a.md')
  await waitFor(() => expect(changes()).toEqual(['a.md created', 'a.md modified', 'a.md deleted']), PATIENCE)
})

test('the manager is called as it was drawn up', () => {
  const poll = vi.fn(async () => undefined)
  manage(manager, poll)
  expect(poll).toHaveBeenCalledOnce()
  expect(manager.has('key')).toBe(false)
})
