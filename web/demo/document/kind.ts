/** Determines the kind of a document from its roots; the file name is not used. */
import * as Y from 'yjs'

/** The names of the text root, and of the root in which Tiptap keeps rich text. */
export const TEXT_ROOT = 'content'
export const RICH_ROOT = 'default'

/** A root of a document, of any type. */
export type Root = Y.Doc['share'] extends Map<string, infer Type> ? Type : never

/** `other`: the document has only roots that this page cannot edit. */
export type DocumentKind = 'text' | 'rich' | 'other'

export function kindOf(doc: Y.Doc): DocumentKind {
  const roots = [...doc.share].filter(([, root]) => root._start !== null || root._map.size > 0).map(([name]) => name)
  if (roots.includes(RICH_ROOT) && isFragment(doc.share.get(RICH_ROOT))) return 'rich'
  return roots.length === 0 || roots.includes(TEXT_ROOT) ? 'text' : 'other'
}

/** A root received over the network has no type yet; only a fragment contains elements. */
function isFragment(root: Root | undefined): boolean {
  if (root instanceof Y.XmlFragment) return true
  for (let item = root?._start ?? null; item !== null; item = item.right) {
    if (!item.deleted) return item.content instanceof Y.ContentType && item.content.type instanceof Y.XmlElement
  }
  return root !== undefined && root._map.size === 0 && root._start !== null
}

export function isMarkdown(path: string): boolean {
  return /\.(md|markdown)$/i.test(path)
}
