import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { GatewayClient } from '../src/client.js'
import {
  isProblem,
  MissingPredecessors,
  NoAnswer,
  PROBLEM_CODES,
  ProblemAnswer,
  UnexpectedAnswer
} from '../src/errors.js'
import { GatewayProcess } from './support/gateway.js'
import { Heard } from './support/until.js'

const gateway = new GatewayProcess()

beforeAll(async () => {
  await gateway.start()
})

afterAll(() => gateway.stop())

function textOf(update: Uint8Array | null): string {
  const doc = new Y.Doc()
  if (update !== null) Y.applyUpdate(doc, update)
  return doc.getText('content').toString()
}

describe('files', () => {
  test('are written as updates and as text, and read in all forms', async () => {
    const project = gateway.project()
    const doc = new Y.Doc()
    doc.getText('content').insert(0, 'one\n')
    const { value: receipt } = await project.appendUpdate('a b/ü.md', Y.encodeStateAsUpdate(doc))
    expect(receipt).toMatchObject({ path: 'a b/ü.md', version: 1, changed: true })
    const { value: second, tag } = await project.putText('a b/ü.md', 'one\ntwo\n', { ifMatch: '*' })
    expect(second.version).toBe(2)
    const whole = await project.readUpdate('a b/ü.md')
    expect(whole).toMatchObject({ version: 2, fromVersion: 0, tag })
    expect(textOf(whole.update)).toBe('one\ntwo\n')
    const increment = await project.readUpdate('a b/ü.md', { fromVersion: 1 })
    expect(increment.fromVersion).toBe(1)
    Y.applyUpdate(doc, increment.update as Uint8Array)
    expect(doc.getText('content').toString()).toBe('one\ntwo\n')
    const difference = await project.readUpdate('a b/ü.md', { stateVector: Y.encodeStateVector(new Y.Doc()) })
    expect(textOf(difference.update)).toBe('one\ntwo\n')
    expect(textOf((await project.readUpdate('a b/ü.md', { atVersion: 1 })).update)).toBe('one\n')
    expect((await project.readUpdate('a b/ü.md', { fromVersion: 2 })).update).toBeNull()
    expect((await project.readUpdate('a b/ü.md', { tag })).update).toBeNull()
    expect((await project.readText('a b/ü.md', { atVersion: 1 })).value).toBe('one\n')
    expect((await project.readJson('a b/ü.md')).value).toEqual({ content: 'one\ntwo\n' })
  })

  test('are listed, moved, deleted; what changed is told', async () => {
    const project = gateway.project()
    const { value: first } = await project.putText('a.md', 'a')
    await project.putText('b.md', 'b')
    const page = await project.listFiles({ limit: 1 })
    expect(page.value).toMatchObject({ files: [{ path: 'a.md', version: 1 }], next: 'a.md' })
    expect((await project.listFiles({ limit: 1, tag: page.tag })).value).toBeNull()
    expect((await project.allFiles()).map((file) => file.path)).toEqual(['a.md', 'b.md'])
    await project.move('b.md', 'c.md')
    await project.delete('a.md')
    const status = await project.status({ since: first.cursor, paths: ['a.md', 'b.md', 'c.md'] })
    expect(status.value.changes.map((each) => [each.path, each.change_type])).toEqual([
      ['b.md', 'deleted'],
      ['c.md', 'created'],
      ['a.md', 'deleted']
    ])
    const { value: news, tag } = await project.changes({ since: first.cursor, kinds: ['file'] })
    expect(news?.changes).toHaveLength(3)
    expect((await project.changes({ since: news?.cursor ?? '', kinds: ['file'], tag })).value).toBeNull()
  })

  test('of many are pushed and pulled in one round trip; one that fails holds up no other', async () => {
    const project = gateway.project()
    const doc = new Y.Doc()
    doc.getText('content').insert(0, 'pushed')
    await project.putText('other.md', 'there')
    const answer = await project.sync({ 'a.md': Y.encodeStateAsUpdate(doc), 'b.md': new Uint8Array([7, 7]) })
    expect(answer.results['a.md']).toMatchObject({ version: 1, changed: true })
    expect(isProblem(answer.results['b.md'], 'invalid_update')).toBe(true)
    const pulled = answer.changes.find((change) => change.path === 'other.md')
    expect(textOf(pulled?.update ?? null)).toBe('there')
  })

  test('an edit of an old version is merged, and parts of a text are replaced', async () => {
    const project = gateway.project()
    const { value: first } = await project.putText('merged.md', 'milk\nbread\n')
    await project.putText('merged.md', 'milk\nbread\nbutter\n', { baseVersion: first.version })
    const { value: merged } = await project.putText('merged.md', 'oat milk\nbread\n', { baseVersion: first.version })
    expect(merged.merged).toBe(true)
    await project.editText('merged.md', [
      { old: 'bread', new: 'rye' },
      { start: 0, end: 3, text: 'soy' }
    ])
    expect((await project.readText('merged.md')).value).toBe('soy milk\nrye\nbutter\n')
    await expect(project.editText('merged.md', [{ old: 'absent', new: 'x' }])).rejects.toMatchObject({
      code: 'edit_not_applicable',
      problem: { index: 0, found: 0 }
    })
  })

  test('have a past, and go back to it', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'one\n')
    await project.putText('a.md', 'two\n')
    const { versions, next } = await project.history('a.md')
    expect(versions.map((each) => each.version)).toEqual([2, 1])
    expect(next).toBeNull()
    expect((await project.textDifference('a.md', 1, 2)).edits.length).toBeGreaterThan(0)
    expect(await project.unifiedDiff('a.md', 1, 2)).toContain('+two')
    expect((await project.restore('a.md', 1)).value.version).toBe(3)
    expect((await project.readText('a.md')).value).toBe('one\n')
  })
})

describe('sessions and turns', () => {
  test('are created once, also where the first answer is lost', async () => {
    let sent = 0
    const lossy: typeof fetch = async (...request) => {
      const answer = await fetch(...request)
      sent += 1
      if (sent % 2 === 0) return answer
      await answer.arrayBuffer()
      throw new TypeError('the connection was cut')
    }
    const name = `once-${crypto.randomUUID()}`
    const project = new GatewayClient(gateway.url, { fetch: lossy }).project(name)
    const session = await project.createSession('work')
    const turn = await project.createTurn(session.id, 'Do it')
    const receipt = await project.appendBlocks(session.id, turn.id, [{ type: 'text', content: 'one' }])
    expect(sent).toBe(6)
    expect(receipt).toMatchObject({ first_index: 0, block_count: 1 })
    const known = new GatewayClient(gateway.url).project(name)
    expect((await known.listSessions()).sessions).toEqual([session])
    expect((await known.listTurns(session.id)).turns.map(({ id }) => id)).toEqual([turn.id])
    expect((await known.readTurn(session.id, turn.id)).value?.block_count).toBe(1)
  })

  test('are not sent again where the request was aborted', async () => {
    let sent = 0
    const leaving = new AbortController()
    const aborted: typeof fetch = () => {
      sent += 1
      leaving.abort()
      return Promise.reject(leaving.signal.reason)
    }
    const project = new GatewayClient(gateway.url, { fetch: aborted }).project('p')
    await expect(project.createSession('x', { signal: leaving.signal })).rejects.toBe(leaving.signal.reason)
    expect(sent).toBe(1)
  })

  test('are created, written and read', async () => {
    const project = gateway.project()
    const session = await project.createSession('A title')
    expect(await project.readSession(session.id)).toEqual(session)
    expect((await project.listSessions()).sessions).toEqual([session])
    const turn = await project.createTurn(session.id, 'Do it')
    await project.appendBlocks(session.id, turn.id, [{ type: 'text', content: 'Yes' }], { firstIndex: 0 })
    const read = await project.readTurn(session.id, turn.id)
    expect(read.value).toMatchObject({ status: 'running', block_count: 1, blocks: [{ index: 0, content: 'Yes' }] })
    expect((await project.readTurn(session.id, turn.id, { tag: read.tag })).value).toBeNull()
    expect((await project.readTurn(session.id, turn.id, { afterBlock: 1 })).value?.blocks).toEqual([])
    const line = { type: 'result', subtype: 'success', is_error: false, result: 'Done' }
    const output = await project.appendOutput(session.id, turn.id, `${JSON.stringify(line)}\n`, {
      offset: 0,
      final: true
    })
    expect(output.status).toBe('completed')
    expect((await project.turnStatus(session.id, turn.id)).value?.status).toBe('completed')
    expect((await project.listTurns(session.id)).turns.map((each) => each.id)).toEqual([turn.id])
    const other = await project.createTurn(session.id, 'Or not')
    expect((await project.setTurnStatus(session.id, other.id, 'cancelled')).status).toBe('cancelled')
    await expect(project.setTurnStatus(session.id, other.id, 'running')).rejects.toMatchObject({
      code: 'turn_finished',
      problem: { turn_status: 'cancelled' }
    })
  })
})

describe('the feed', () => {
  test.each(['sse', 'long-poll'] as const)('is followed by %s until it is aborted', async (transport) => {
    const project = gateway.project()
    const { value: receipt } = await project.putText('a.md', 'one')
    const stop = new AbortController()
    const heard = new Heard<string>()
    const following = (async () => {
      for await (const answer of project.follow({ since: receipt.cursor, transport, signal: stop.signal })) {
        for (const change of answer.changes) if (change.kind === 'file') heard.hear(`${change.path} ${change.version}`)
      }
    })()
    await project.putText('a.md', 'two')
    await heard.until((each) => each === 'a.md 2')
    await project.putText('b.md', 'three')
    await heard.until((each) => each === 'b.md 1')
    stop.abort()
    await expect(following).rejects.toBe(stop.signal.reason)
    expect(heard.all).toEqual(['a.md 2', 'b.md 1'])
  })
})

describe('errors', () => {
  test('are the problems of the gateway, by their code', async () => {
    const project = gateway.project()
    await expect(project.readText('none.md')).rejects.toMatchObject({ code: 'project_not_found', status: 404 })
    await project.putText('a.md', 'one')
    await expect(project.putText('a.md', 'two', { create: true })).rejects.toMatchObject({ status: 412 })
    await project.delete('a.md')
    await expect(project.readText('a.md')).rejects.toMatchObject({ code: 'file_deleted', status: 410 })
    await expect(project.putText('../a.md', '')).rejects.toBeInstanceOf(ProblemAnswer)
  })

  test('of an update with a gap say what the gateway has', async () => {
    const project = gateway.project()
    const doc = new Y.Doc()
    const updates: Uint8Array[] = []
    doc.on('update', (update: Uint8Array) => updates.push(update))
    for (const word of ['one ', 'two ', 'three']) doc.getText('content').insert(doc.getText('content').length, word)
    await project.appendUpdate('a.md', updates[0] as Uint8Array)
    const refused = await project.appendUpdate('a.md', updates[2] as Uint8Array).catch((error) => error)
    expect(refused).toBeInstanceOf(MissingPredecessors)
    await project.appendUpdate('a.md', Y.encodeStateAsUpdate(doc, (refused as MissingPredecessors).stateVector))
    expect((await project.readText('a.md')).value).toBe('one two three')
  })

  test('of the network are told from answers of others', async () => {
    const nobody = new GatewayClient('http://127.0.0.1:2').project('p')
    const none = await nobody.listFiles().catch((error) => error)
    expect(none).toBeInstanceOf(NoAnswer)
    expect(none.message).toMatch(/^GET http:\/\/127\.0\.0\.1:2\/api\/projects\/p\/files: .*ECONNREFUSED/)
    const proxy = async () => new Response('<html>', { status: 502, headers: { 'Retry-After': '7' } })
    const behind = new GatewayClient(gateway.url, { fetch: proxy }).project('p')
    const error = await behind.listFiles().catch((error) => error)
    expect(error).toBeInstanceOf(UnexpectedAnswer)
    expect(error).toMatchObject({ status: 502, retryAfterS: 7 })
    const page = async () => new Response('<html>', { headers: { 'Content-Type': 'text/html' } })
    const elsewhere = new GatewayClient(gateway.url, { fetch: page }).project('p')
    await expect(elsewhere.listFiles()).rejects.toThrow('200: what answers is no yjs-gateway')
  })

  test('of the network say in a page that its origin may not be allowed', async () => {
    vi.stubGlobal('location', new URL('https://app.example/page'))
    try {
      const fetch = async () => Promise.reject(new TypeError('Failed to fetch'))
      const project = new GatewayClient(gateway.url, { fetch }).project('p')
      await expect(project.listFiles()).rejects.toThrow(
        'it cannot be reached, or does not allow the origin https://app.example (GATEWAY_CORS_ORIGINS)'
      )
    } finally {
      vi.unstubAllGlobals()
    }
  })

  test('of a request that is aborted are the reason of its signal', async () => {
    const project = gateway.project()
    const { value: receipt } = await project.putText('a.md', 'one')
    const stop = new AbortController()
    const held = project.changes({ since: receipt.cursor, wait: 50, signal: stop.signal })
    stop.abort(new Error('enough'))
    await expect(held).rejects.toThrow('enough')
  })

  test('have every code that the API documents', () => {
    const page = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf-8')
    const codes = [...page.matchAll(/^\| `([a-z_]+)` \| \d{3} \|/gm)].map((match) => match[1])
    expect([...PROBLEM_CODES].sort()).toEqual(codes.sort())
  })
})

describe('a client', () => {
  test('sends credentials, asked for each time, and an author whose name no header can carry', async () => {
    const sent: Headers[] = []
    const spy: typeof fetch = (input, init) => {
      sent.push(new Headers(init?.headers))
      return fetch(input, init)
    }
    let asked = 0
    const client = new GatewayClient(gateway.url, {
      token: 'secret',
      author: 'Łukasz',
      headers: () => {
        asked += 1
        return { 'X-Count': String(asked) }
      },
      fetch: spy
    })
    const project = client.project(`p-${crypto.randomUUID()}`)
    await project.putText('a.md', 'one')
    await project.readText('a.md')
    expect(sent.map((headers) => headers.get('x-count'))).toEqual(['1', '2'])
    expect(sent[0]?.get('authorization')).toBe('Bearer secret')
    expect((await project.history('a.md')).versions[0]?.author).toBe('?ukasz')
  })

  test('knows how the gateway is', async () => {
    const client = new GatewayClient(`${gateway.url}/`)
    expect(await client.healthz()).toEqual({ status: 'ok' })
    expect(await client.readyz()).toMatchObject({ status: 'ok', checks: { database: 'ok' } })
    expect(await client.metrics()).toContain('gateway_requests_total')
  })
})

describe('an edit of a text', () => {
  test('keeps what others write meanwhile', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'one\ntwo\n')
    const { value } = await project.edit('a.md', async (text) => {
      await project.putText('a.md', 'zero\none\ntwo\n')
      return `${text}three\n`
    })
    expect(value.merged).toBe(true)
    expect((await project.readText('a.md')).value).toBe('zero\none\ntwo\nthree\n')
  })

  test('is done again where the file is another one by then', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'one')
    const seen: string[] = []
    await project.edit('a.md', async (text) => {
      seen.push(text)
      if (seen.length === 1) {
        await project.delete('a.md')
        await project.putText('a.md', 'another')
      }
      return `${text}!`
    })
    expect(seen).toEqual(['one', 'another'])
    expect((await project.readText('a.md')).value).toBe('another!')
  })

  test('of a file that is not there says what to do', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'one')
    const failure = await project.edit('b.md', (text) => text).catch((error) => error)
    expect(failure).toBeInstanceOf(ProblemAnswer)
    expect(failure.problem.code).toBe('file_not_found')
    expect(failure.message).toMatch(/Check the path; the first write creates the file\.$/)
  })
})

describe('projects', () => {
  test('are listed and erased', async () => {
    const { name } = gateway.project()
    const client = new GatewayClient(gateway.url)
    const { value } = await client.project(name).putText('a.md', 'text')
    const { projects } = await client.listProjects({ after: name.slice(0, -1), limit: 1 })
    expect(projects).toMatchObject([{ id: name, cursor: value.cursor, files: 1 }])
    await client.deleteProject(name)
    const failure = await client.deleteProject(name).catch((error) => error)
    expect(isProblem(failure, 'project_not_found')).toBe(true)
    await expect(client.project(name).readText('a.md')).rejects.toThrow(ProblemAnswer)
  })
})
