/** A sample agent that needs no API key: it runs in this page, and uses the same requests as any agent. */
import { type BlockType, isFinished, isProblem, type Project } from '../../src/index.js'
import { Pen } from './pen.js'
import { type Script, scriptFor } from './script.js'

const PAUSE_MS = 140
const THINKING_MS = 700
/** Created if the project has no text file. */
const FIRST_FILE = 'notes.md'

export interface Task {
  session: string
  turn: string
  prompt: string
  /** The path of the open file. */
  path: string | null
}

/** Thrown when somebody has cancelled the turn. */
class TurnEnded extends Error {}

/** Run a turn to its end. Stops if the turn is cancelled or the page is unloaded. */
export async function runSampleAgent(project: Project, task: Task): Promise<void> {
  const { session, turn } = task
  const leave = () => cancelNow(project, task)
  addEventListener('pagehide', leave)
  try {
    await work(project, task)
    await project.setTurnStatus(session, turn, 'completed')
  } catch (error) {
    if (error instanceof TurnEnded || isProblem(error, 'turn_finished')) return
    const reason = error instanceof Error ? error.message : String(error)
    await project.setTurnStatus(session, turn, 'failed', { error: reason }).catch(() => undefined)
  } finally {
    removeEventListener('pagehide', leave)
  }
}

async function work(project: Project, { session, turn, prompt, path }: Task): Promise<void> {
  const say = (...blocks: { type: BlockType; content: unknown }[]) => project.appendBlocks(session, turn, blocks)
  const pen = await openText(project, path)
  const script = scriptFor(prompt, pen.text)
  await say({ type: 'thinking', content: script.thought })
  await pauseFor(THINKING_MS)
  await say(
    { type: 'tool_use', content: { id: 'read', name: 'Read', input: { file_path: pen.path } } },
    { type: 'tool_result', content: { tool_use_id: 'read', content: pen.text.slice(0, 2_000), is_error: false } },
    { type: 'text', content: script.before }
  )
  await pauseFor(THINKING_MS)
  if (script.change !== null) await edit(project, pen, script.change, { session, turn }, say)
  await say({ type: 'text', content: script.after })
}

async function edit(
  project: Project,
  pen: Pen,
  { start, end, text }: NonNullable<Script['change']>,
  { session, turn }: Pick<Task, 'session' | 'turn'>,
  say: (...blocks: { type: BlockType; content: unknown }[]) => Promise<unknown>
): Promise<void> {
  const input = { file_path: pen.path, new_string: text }
  await say({ type: 'tool_use', content: { id: 'edit', name: 'Edit', input } })
  const words = text.match(/\s*\S+\s?/g) ?? []
  let count = 0
  await pen.write(start, end, words, async () => {
    count += 1
    await pauseFor(PAUSE_MS)
    if (count % 4 > 0) return
    const state = (await project.turnStatus(session, turn)).value
    if (state !== null && isFinished(state.status)) throw new TurnEnded()
  })
  const outcome = `${words.length} words, each merged with what others wrote meanwhile`
  await say({ type: 'tool_result', content: { tool_use_id: 'edit', content: outcome, is_error: false } })
}

/** Open the file of the task if it is a text, else the first text file, else a new file. */
async function openText(project: Project, path: string | null): Promise<Pen> {
  const files = await project.allFiles().catch(() => [])
  const others = files.map((file) => file.path).filter((each) => each.endsWith('.md') && each !== path)
  for (const each of [...(path === null ? [] : [path]), ...others]) {
    try {
      await project.readText(each)
      return await Pen.open(project, each)
    } catch (error) {
      if (!isProblem(error, 'not_a_text', 'file_not_found', 'file_deleted')) throw error
    }
  }
  await project.putText(FIRST_FILE, '# Notes\n', { create: true })
  return Pen.open(project, FIRST_FILE)
}

/** Cancel a turn that nobody works on any more; the request survives the unloading of the page. */
function cancelNow(project: Project, { session, turn }: Task): void {
  const path = `${project.path}/sessions/${session}/turns/${turn}`
  const headers = { 'Content-Type': 'application/json' }
  const body = JSON.stringify({ status: 'cancelled' })
  project.client.send('PATCH', path, { headers, body, keepalive: true }).catch(() => undefined)
}

function pauseFor(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
