/** The pages of `examples/`, built by their own command: two windows each, with presence and undo. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Project } from '../src/project.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { focusLexical, focusTiptap } from './support/caret.js'
import { GatewayProcess, PYTHON, ROOT } from './support/gateway.js'

const EXAMPLES = join(ROOT, 'examples')
const VITE = join(EXAMPLES, 'node_modules/vite/bin/vite.js')
const HAS_PACKAGES = existsSync(VITE)

/** Selectors of an editor: its input, the carets of other clients within it, and their names. */
interface Example {
  path: string
  text: string
  /** Focuses the input with the caret at the end of the text. */
  focus(page: Page): Promise<void>
  /** What the editor contains once it can be typed into; absent if that is at once. */
  ready?: string
  carets?: string
  names: string
  /** The format in which agents read the document; absent if the gateway has none for this kind of document. */
  format?: 'text' | 'markdown'
}

/** For editors that keep the caret themselves, or read it from the page before they render anything. */
function click(selector: string): Example['focus'] {
  return async (page) => {
    await page.locator(selector).click()
    await page.locator(`${selector}:focus-within`).waitFor()
    await page.keyboard.press('Control+End')
  }
}

const TIPTAP: Example = {
  text: '.tiptap',
  focus: (page) => focusTiptap(page, '.tiptap'),
  carets: '.collaboration-carets__caret',
  names: '.collaboration-carets__label',
  path: 'tiptap.doc',
  format: 'markdown'
}
const PAGES: Record<string, Example> = {
  codemirror: {
    path: 'codemirror.md',
    format: 'text',
    text: '.cm-content',
    focus: click('.cm-content'),
    carets: '.cm-ySelectionCaret',
    names: '.cm-ySelectionInfo'
  },
  monaco: {
    path: 'monaco.md',
    format: 'text',
    text: '.view-lines',
    focus: click('.monaco-editor'),
    names: '.yRemoteSelectionHead'
  },
  quill: {
    path: 'quill.doc',
    format: 'text',
    text: '.ql-editor',
    focus: click('.ql-editor'),
    names: '.ql-cursor-name'
  },
  tiptap: TIPTAP,
  'tiptap-hocuspocus': TIPTAP,
  'tiptap-y-websocket': TIPTAP,
  lexical: {
    path: 'lexical.doc',
    text: '[contenteditable=true]',
    focus: (page) => focusLexical(page, '[contenteditable=true]'),
    ready: '[contenteditable=true] p',
    names: '#editor > div span'
  },
  blocknote: {
    path: 'blocknote.doc',
    text: '.bn-editor',
    focus: (page) => focusTiptap(page, '.bn-editor'),
    carets: '.bn-collaboration-cursor__base',
    names: '.bn-collaboration-cursor__label',
    format: 'markdown'
  }
}

const gateway = new GatewayProcess()
const folder = mkdtempSync(join(tmpdir(), 'examples-'))
const faults: Error[] = []
let browser: Browser
let context: BrowserContext
let preview: ChildProcess
let url: string

describe.skipIf(!HAS_BROWSER || !HAS_PACKAGES)('the pages of examples/', () => {
  beforeAll(async () => {
    await Promise.all([vite('build', '--logLevel', 'error'), gateway.start()])
    preview = spawn(process.execPath, [VITE, 'preview', '--outDir', folder, '--port', '0'], {
      cwd: EXAMPLES,
      env: { ...process.env, GATEWAY_URL: gateway.url, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'ignore']
    })
    for await (const line of createInterface({ input: preview.stdout as NodeJS.ReadableStream })) {
      url = /http:\/\/\S+/.exec(line)?.[0] ?? ''
      if (url !== '') break
    }
    browser = await startBrowser()
  })

  beforeEach(async () => {
    context = await browser.newContext()
  })

  afterEach(async () => {
    await context.close()
    expect(faults.splice(0)).toEqual([])
  })

  afterAll(async () => {
    await browser?.close()
    preview?.kill()
    await gateway.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  async function vite(command: string, ...options: string[]): Promise<void> {
    const run = spawn(process.execPath, [VITE, command, '--outDir', folder, ...options], { cwd: EXAMPLES })
    const [code] = await once(run, 'exit')
    expect(code).toBe(0)
  }

  async function open(name: string, project: string, user: string): Promise<Page> {
    const page = await context.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    await page.goto(new URL(`${name}/?project=${project}&name=${user}`, url).href)
    await page.locator(PAGES[name]?.text ?? '').waitFor({ state: 'attached' })
    await page
      .locator(PAGES[name]?.ready ?? 'body')
      .first()
      .waitFor({ state: 'attached' })
    return page
  }

  /** Wait until an editor shows exactly this text. */
  async function shows(page: Page, { text, carets }: Example, words: string): Promise<void> {
    const shown = ([text, carets]: string[]) => {
      const content = document.querySelector(text ?? '')?.cloneNode(true) as HTMLElement | undefined
      for (const caret of carets ? (content?.querySelectorAll(carets) ?? []) : []) caret.remove()
      return content?.textContent?.replaceAll('\u00a0', ' ').replaceAll('\u2060', '').trim()
    }
    await expect.poll(() => page.evaluate(shown, [text, carets ?? ''])).toBe(words)
  }

  /** Wait until the caret of a person is shown with the person's name, as text or through CSS. */
  async function sees(page: Page, { names }: Example, person: string): Promise<void> {
    const seen = (names: string) =>
      [...document.querySelectorAll(names)]
        .map((label) => `${label.textContent}${getComputedStyle(label, '::after').content}`)
        .join()
    await expect.poll(() => page.evaluate(seen, names)).toContain(person)
  }

  async function type(page: Page, { focus }: Example, words: string): Promise<void> {
    await page.bringToFront()
    await focus(page)
    await page.keyboard.type(words)
  }

  test.each(Object.entries(PAGES))(
    '%s: two windows converge, see each other, and undo what is their own',
    async (name, example) => {
      const project = gateway.project()
      const one = await open(name, project.name, 'Ada')
      await type(one, example, 'one')
      await shows(one, example, 'one')
      const two = await open(name, project.name, 'Grace')
      await shows(two, example, 'one')
      await type(two, example, ' two')
      await Promise.all([shows(one, example, 'one two'), shows(two, example, 'one two')])
      await sees(one, example, 'Grace')

      // On a slow machine each letter is an edit of its own; the last undo finds no edits of this user.
      for (let times = 0; times <= ' two'.length; times += 1) await two.keyboard.press('Control+z')
      await Promise.all([shows(one, example, 'one'), shows(two, example, 'one')])

      if (example.format === undefined) return
      const file = `${gateway.url}/api/projects/${project.name}/files/examples/${example.path}?format=${example.format}`
      await expect.poll(async () => (await (await fetch(file)).text()).trim()).toBe('one')
    }
  )

  test('Tiptap with three providers is one document', async () => {
    const { name } = gateway.project()
    const pages: Page[] = []
    for (const [position, example] of ['tiptap', 'tiptap-hocuspocus', 'tiptap-y-websocket'].entries()) {
      const page = await open(example, name, `person-${position}`)
      await shows(page, TIPTAP, 'abc'.slice(0, position))
      await type(page, TIPTAP, 'abc'.charAt(position))
      pages.push(page)
    }
    for (const page of pages) await shows(page, TIPTAP, 'abc')
    for (const position of [1, 2]) await sees(pages[0] as Page, TIPTAP, `person-${position}`)
  })

  /** Run a program with the gateway's Python, on the files of a project. */
  function python(project: string, ...command: string[]): ChildProcess {
    const env = { ...process.env, GATEWAY_URL: gateway.url, GATEWAY_PROJECT: project }
    return spawn(PYTHON, command, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'inherit'] })
  }

  test('the Python agent does the tasks while a person types', async () => {
    const project = gateway.project()
    const example = PAGES.codemirror as Example
    await project.putText('examples/codemirror.md', '- [ ] buy bread\n- [ ] buy tea\nNotes:')
    const page = await open('codemirror', project.name, 'Ada')
    const agent = python(project.name, 'examples/python-agent/agent.py', 'examples/codemirror.md')
    const ended = once(agent, 'exit')
    agent.stdout?.resume()
    await type(page, example, ' and jam, and honey')
    expect(await ended).toEqual([0, null])
    const done = [
      '- [x] buy bread (done by the agent)',
      '- [x] buy tea (done by the agent)',
      'Notes: and jam, and honey'
    ]
    await shows(page, example, done.join(''))
    await expect.poll(() => contentOf(project)).toBe(done.join('\n'))
    const { versions } = await project.history('examples/codemirror.md')
    expect(versions.map(({ author }) => author)).toContain('agent')
  })

  test('an agent that edits files does so in a live folder, as Claude Code does', async () => {
    const project = gateway.project()
    const example = PAGES.codemirror as Example
    const notes = mkdtempSync(join(tmpdir(), 'live-'))
    const file = join(notes, 'examples/codemirror.md')
    await project.putText('examples/codemirror.md', '- [ ] buy bread\nNotes:')
    const page = await open('codemirror', project.name, 'Ada')
    const live = python(project.name, '-m', 'gateway', 'live', notes, '--author', 'claude')
    const ended = once(live, 'exit')
    try {
      await once(live.stdout as NodeJS.ReadableStream, 'data')
      await expect.poll(() => existsSync(file)).toBe(true)
      // The same steps as the tool `Edit` of Claude Code: read, replace one occurrence, write the whole file; here
      // beside it, because this process may be stalled while the file is half written.
      writeFileSync(`${notes}.md`, readFileSync(file, 'utf8').replace('- [ ] buy bread', '- [x] buy bread'))
      renameSync(`${notes}.md`, file)
      await type(page, example, ' and jam')
      await shows(page, example, '- [x] buy breadNotes: and jam')
      await expect.poll(() => readFileSync(file, 'utf8')).toBe('- [x] buy bread\nNotes: and jam')
    } finally {
      live.kill()
      await ended
      rmSync(notes, { recursive: true, force: true })
    }
  })

  const contentOf = async (project: Project) => (await project.readText('examples/codemirror.md')).value
})
