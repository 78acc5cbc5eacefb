/** Names that would leave their project are refused before anything is sent; all others reach the gateway unchanged. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { WebSocket as NodeWebSocket } from 'ws'
import * as Y from 'yjs'
import { GatewayClient } from '../src/client.js'
import { ProblemAnswer } from '../src/errors.js'
import { checkedPath } from '../src/names.js'
import type { Project } from '../src/project.js'
import { HttpProvider } from '../src/provider/index.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

interface Case {
  name: string
  path?: string
  project?: string
  id?: string
  ok?: true
  code?: string
}

const CASES: Case[] = JSON.parse(readFileSync(new URL('../../tests/vectors/paths.json', import.meta.url), 'utf-8'))
const OPTIONS = { batchMs: 0, WebSocket: NodeWebSocket as unknown as typeof WebSocket }
const PATHS = CASES.filter((each) => each.path !== undefined)
const IDS = CASES.filter((each) => each.id !== undefined)

type Method = Exclude<keyof Project, 'client' | 'path' | 'name' | 'url'>

/** Every method, with the name in each of its positions. */
const METHODS: Record<Method, (project: Project, name: string) => unknown> = {
  listFiles: (project, name) => project.listFiles({ prefix: name, after: name }),
  allFiles: (project, name) => project.allFiles({ prefix: name }),
  listDeleted: (project, name) => project.listDeleted({ prefix: name, after: name }),
  allDeleted: (project, name) => project.allDeleted({ prefix: name }),
  status: (project, name) => project.status({ paths: [name], versions: { [name]: 1 }, since: name }),
  changes: (project, name) => project.changes({ paths: [name], prefix: name, since: name, tag: 'x' }),
  changesAsText: (project, name) => project.changesAsText({ paths: [name], prefix: name, since: name, root: name }),
  follow: (project, name) => project.follow({ paths: [name], prefix: name }).next(),
  readUpdate: (project, name) => project.readUpdate(name),
  readText: (project, name) => project.readText(name, { root: name }),
  readMarkdown: (project, name) => project.readMarkdown(name, { root: name }),
  readHtml: (project, name) => project.readHtml(name, { root: name }),
  readJson: (project, name) => project.readJson(name),
  appendUpdate: (project, name) => project.appendUpdate(name, new Uint8Array()),
  putText: (project, name) => project.putText(name, '', { root: name }),
  edit: (project, name) => project.edit(name, (text) => text),
  putMarkdown: (project, name) => project.putMarkdown(name, '', { root: name }),
  editText: (project, name) => project.editText(name, []),
  presence: (project, name) => project.presence(name),
  putPresence: (project, name) => project.putPresence(name, 7, {}),
  deletePresence: (project, name) => project.deletePresence(name, 7),
  delete: (project, name) => project.delete(name),
  move: (project, name) => project.move(name, name),
  sync: (project, name) => project.sync({ [name]: new Uint8Array() }, { paths: [name] }),
  history: (project, name) => project.history(name),
  unifiedDiff: (project, name) => project.unifiedDiff(name, 1, 2, { root: name }),
  textDifference: (project, name) => project.textDifference(name, 1, 2),
  restore: (project, name) => project.restore(name, 1),
  createSession: (project, name) => project.createSession(name),
  listSessions: (project, name) => project.listSessions({ after: name }),
  readSession: (project, name) => project.readSession(name),
  createTurn: (project, name) => project.createTurn(name, name),
  listTurns: (project, name) => project.listTurns(name, { after: name }),
  readTurn: (project, name) => project.readTurn(name, name),
  turnStatus: (project, name) => project.turnStatus(name, name),
  followTurn: (project, name) => project.followTurn(name, name).next(),
  setTurnStatus: (project, name) => project.setTurnStatus(name, name, 'running'),
  appendBlocks: (project, name) => project.appendBlocks(name, name, []),
  appendOutput: (project, name) => project.appendOutput(name, name, '')
}

const TAKES_PATH: Method[] = [
  'status',
  'changes',
  'follow',
  'readUpdate',
  'readText',
  'readJson',
  'appendUpdate',
  'putText',
  'presence',
  'putPresence',
  'deletePresence',
  'delete',
  'move',
  'sync',
  'history',
  'unifiedDiff',
  'textDifference',
  'restore'
]
const TAKES_ID: Method[] = [
  'readSession',
  'createTurn',
  'listTurns',
  'readTurn',
  'turnStatus',
  'setTurnStatus',
  'appendBlocks',
  'appendOutput'
]

/** A client of an empty gateway, which records the resolved URL of each request. */
function noting(): { client: GatewayClient; sent: URL[] } {
  const sent: URL[] = []
  const details = { type: 'about:blank', title: '', status: 404, detail: '', code: 'not_found' }
  const headers = { 'Content-Type': 'application/problem+json' }
  const answer: typeof fetch = async (input) => {
    sent.push(new URL(String(input)))
    return Response.json(details, { status: 404, headers })
  }
  return { client: new GatewayClient('http://gateway', { fetch: answer }), sent }
}

async function outcome(work: () => unknown): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    return error
  }
}

/** Names that contain parts that leave a folder, and parts that disguise them. */
const NASTY = fc.oneof(
  fc.constantFrom(...CASES.map((each) => each.path ?? each.project ?? each.id ?? '')),
  fc
    .array(fc.constantFrom('..', '.', '/', '\\', '%2e', '%2f', 'a', '?', '#', ':', '@', '\t', '\n', '\u0000', 'é'))
    .map((parts) => parts.join('')),
  fc.string({ unit: 'binary' })
)

test.each(Object.keys(METHODS) as Method[])('no name makes %s leave its project', async (method) => {
  await fc.assert(
    fc.asyncProperty(NASTY, async (name) => {
      const { client, sent } = noting()
      await outcome(() => METHODS[method](client.project('mine'), name))
      for (const url of sent) {
        expect(url.origin).toBe('http://gateway')
        expect(url.pathname).toMatch(/^\/api\/projects\/mine\//)
        expect(url.hash).toBe('')
      }
    })
  )
})

describe.each(PATHS)('a path: $name', ({ path = '', code }) => {
  test.each(TAKES_PATH)('%s', async (method) => {
    const { client, sent } = noting()
    const error = await outcome(() => METHODS[method](client.project('mine'), path))
    expect(error).toBeInstanceOf(ProblemAnswer)
    expect((error as ProblemAnswer).code).toBe(code ?? 'not_found')
    expect(sent).toHaveLength(code === undefined ? 1 : 0)
    const url = sent[0]?.pathname.match(/^\/api\/projects\/mine\/(?:files|history)\/(.*?)(?:\/restore)?$/)?.[1]
    if (url !== undefined && !['status', 'move'].includes(method)) expect(decodeURIComponent(url)).toBe(path)
  })
})

test.each(IDS.flatMap((each) => TAKES_ID.map((method) => ({ ...each, method }))))(
  'an id of a session or a turn: $name ($method)',
  async ({ id = '', code, method }) => {
    const { client, sent } = noting()
    const error = await outcome(() => METHODS[method](client.project('mine'), id))
    expect((error as ProblemAnswer).code).toBe(code ?? 'not_found')
    expect(sent).toHaveLength(code === undefined ? 1 : 0)
  }
)

test.each(CASES.filter((each) => each.project !== undefined))('a project: $name', ({ project = '', code }) => {
  const { client } = noting()
  const made = () => client.project(project)
  if (code === undefined) expect(made().url).toBe(`http://gateway/api/projects/${project}`)
  else expect(made).toThrow(expect.objectContaining({ code }))
  const provided = () => new HttpProvider(client, project, 'a.md', new Y.Doc(), { connect: false }).destroy()
  if (code === undefined) provided()
  else expect(provided).toThrow(expect.objectContaining({ code }))
})

test.each(PATHS)('the path of a provider: $name', ({ path = '', code }) => {
  const { client, sent } = noting()
  for (const transport of ['auto', 'websocket'] as const) {
    const provided = () => new HttpProvider(client, 'mine', path, new Y.Doc(), { transport, connect: false }).destroy()
    if (code === undefined) provided()
    else expect(provided).toThrow(expect.objectContaining({ code }))
  }
  if (code === undefined) expect(checkedPath(path)).toBe(path)
  expect(sent).toEqual([])
})

describe('a gateway', () => {
  const gateway = new GatewayProcess()

  beforeAll(async () => {
    await gateway.start()
  })

  afterAll(() => gateway.stop())

  test('has each file under the name that the client gave it, and in no other project', async () => {
    const project = gateway.project()
    const valid = PATHS.filter((each) => each.ok).map((each) => each.path ?? '')
    for (const path of valid) await project.putText(path, path)
    for (const path of valid) expect((await project.readText(path)).value).toBe(path)
    expect((await project.allFiles()).map((each) => each.path).sort()).toEqual([...valid].sort())
  })

  test.each(['websocket', 'poll'] as const)('has what is typed under each name (%s)', async (transport) => {
    const project = gateway.project()
    for (const { path = '' } of PATHS.filter((each) => each.ok && (each.path?.length ?? 0) < 100)) {
      const doc = new Y.Doc()
      const provider = new HttpProvider(gateway.url, project.name, path, doc, { ...OPTIONS, transport })
      await new Promise((resolve) => provider.once('sync', resolve))
      doc.getText('content').insert(0, path)
      if (transport === 'poll') await provider.flush()
      await vi.waitFor(async () => expect((await project.readText(path)).value).toBe(path), PATIENCE)
      provider.destroy()
    }
  })
})
