/**
 * Moves the caret of a stock editor within the editor itself.
 *
 * A click or a key such as `End` moves the caret in the page first, and the editor learns of that later: if the editor
 * renders something in between, such as another client's caret, it moves the caret back.
 */
import type { Editor } from '@tiptap/core'
import type { ElementNode, LexicalEditor } from 'lexical'
import type { Page } from 'playwright-core'

/** What the editors attach to their elements. */
interface EditorElement extends HTMLElement {
  editor?: Editor
  __lexicalEditor?: LexicalEditor
}

/**
 * Focus a Tiptap editor (BlockNote is one) with the caret behind these words, which have one format; without words, at
 * the end of the text.
 */
export async function focusTiptap(page: Page, selector: string, words?: string): Promise<void> {
  await page.locator(selector).evaluate((element, words) => {
    const { editor } = element as EditorElement
    if (editor === undefined) throw new Error('this is no element of Tiptap')
    let place: number | 'end' | undefined = words === undefined ? 'end' : undefined
    editor.state.doc.descendants(({ text }, position) => {
      const at = words === undefined ? -1 : (text?.indexOf(words) ?? -1)
      if (at >= 0) place = position + at + (words?.length ?? 0)
    })
    if (place === undefined) throw new Error(`the editor does not show: ${words}`)
    editor.commands.focus(place)
  }, words)
  await page.locator(`${selector}:focus`).waitFor()
}

/** Focus a Lexical editor with the caret at the end of the text. */
export async function focusLexical(page: Page, selector: string): Promise<void> {
  await page.locator(selector).evaluate((element) => {
    const { __lexicalEditor: editor } = element as EditorElement
    if (editor === undefined) throw new Error('this is no element of Lexical')
    editor.focus(undefined, { defaultSelection: 'rootEnd' })
    const root = () => editor._pendingEditorState?._nodeMap.get('root') as ElementNode | undefined
    editor.update(() => root()?.selectEnd(), { discrete: true })
  })
  await page.locator(`${selector}:focus`).waitFor()
}
