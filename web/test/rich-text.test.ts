/** A person types in a stock editor while an agent edits the same paragraph as Markdown. */
import { getSchema } from '@tiptap/core'
import { TaskItem, TaskList } from '@tiptap/extension-list'
import { TableKit } from '@tiptap/extension-table'
import StarterKit from '@tiptap/starter-kit'
import { initProseMirrorDoc, updateYFragment } from '@tiptap/y-tiptap'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { schema as ofMarkdown } from 'prosemirror-markdown'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as Y from 'yjs'
import type { Project } from '../src/project.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { focusTiptap } from './support/caret.js'
import { GatewayProcess } from './support/gateway.js'

const BEFORE = '# Plan\n\nThe person wrtes here.\n'
const SECTION = `## From the agent

- one
  - nested
- two

1. first

- [x] done
- [ ] open **soon**

| a | b |
| --- | :-: |
| 1 | [link](http://example.com) |

\`\`\`python
print(1)
\`\`\`

> quoted

---

the end
`

describe('the elements that the gateway writes', () => {
  const gateway = new GatewayProcess()
  const tiptap = getSchema([StarterKit, TableKit, TaskList, TaskItem.configure({ nested: true })])

  beforeAll(() => gateway.start())
  afterAll(() => gateway.stop())

  test.each([
    ['tiptap', 'default', tiptap],
    ['prosemirror', 'prosemirror', ofMarkdown]
  ] as const)('are valid in the schema, and an editor would write the same (%s)', async (name, root, schema) => {
    const project = gateway.project()
    await project.putMarkdown('page', `${BEFORE}\n${SECTION}`, { schema: name })
    const doc = new Y.Doc()
    Y.applyUpdate(doc, (await project.readUpdate('page')).update ?? new Uint8Array())
    const updates: Uint8Array[] = []
    doc.on('update', (update) => updates.push(update))
    const fragment = doc.getXmlFragment(root)
    const { doc: node, mapping } = initProseMirrorDoc(fragment, schema)
    node.check()
    expect(node.textContent).toContain('From the agent')
    doc.transact(() => updateYFragment(doc, fragment, node, { mapping, isOMark: new Map() }))
    expect(updates).toEqual([])
    expect((await project.readMarkdown('page')).value).toContain('  - nested\n')
  })
})

describe.skipIf(!HAS_BROWSER)('in Chromium', () => {
  const gateway = new GatewayProcess()
  const faults: Error[] = []
  let browser: Browser
  let script: string

  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
    const { outputFiles } = await build({
      entryPoints: [`${import.meta.dirname}/support/rich-text-page.ts`],
      bundle: true,
      write: false,
      format: 'esm',
      define: { 'process.env.NODE_ENV': '"production"' }
    })
    script = outputFiles[0]?.text ?? ''
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  async function open(editor: string, project: string): Promise<Page> {
    const page = await browser.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    await page.goto(`${gateway.url}/healthz?${new URLSearchParams({ editor, project, path: 'page' })}`)
    await page.setContent('<!doctype html><title>Editor</title><body></body>')
    await page.addScriptTag({ content: script, type: 'module' })
    return page
  }

  /**
   * The Markdown without empty paragraphs: an editor adds one at the end of the document, possibly before the text that
   * an agent adds there at the same time.
   */
  const markdown = async (project: Project) => (await project.readMarkdown('page')).value.replaceAll('&nbsp;\n\n', '')
  const becomes = (project: Project, text: string) => expect.poll(() => markdown(project)).toBe(text)

  test.each(['tiptap', 'blocknote'] as const)('both edits stay, and undo is the person’s own (%s)', async (schema) => {
    const project = gateway.project()
    await project.putMarkdown('page', BEFORE, { schema })
    const page = await open(schema, project.name)
    await page.getByText('The person wrtes here.').waitFor()
    await focusTiptap(page, '[contenteditable=true]', 'The person wrtes here.')
    await page.keyboard.type(' By hand.')
    await becomes(project, BEFORE.replace('here.', 'here. By hand.'))

    const written = BEFORE.replace('wrtes', '**writes**')
    await project.putMarkdown('page', `${written}\n${SECTION}`, { baseVersion: 1 })
    await page.getByText('The person writes here. By hand.').waitFor()
    await page.getByText('the end').waitFor()
    await page.keyboard.type(' More.')
    const both = `${written.replace('here.', 'here. By hand. More.')}\n${SECTION}`
    await becomes(project, both)

    await project.editText('page', [{ old: '- two\n', new: '- two\n- three\n' }], { format: 'markdown' })
    await page.getByText('three').waitFor()
    // On a slow machine each letter is an edit of its own; the last undo finds no edits of this user.
    for (let times = 0; times <= ' By hand. More.'.length; times += 1) await page.keyboard.press('Control+z')
    await becomes(project, `${written}\n${SECTION.replace('- two\n', '- two\n- three\n')}`)
    expect(faults.splice(0)).toEqual([])
    await page.close()
  })
})
