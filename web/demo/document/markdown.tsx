import { memo } from 'react'
import ReactMarkdown, { type Components } from 'react-markdown'
import remarkGfm from 'remark-gfm'

/** In characters. Longer texts would block the page. */
const MAX_LENGTH = 200_000
const PLUGINS = [remarkGfm]

/** Loads nothing from other sites: an image is shown as a link. */
const COMPONENTS: Components = {
  a: ({ href, children }) => (
    <a href={href} target={href?.startsWith('#') ? undefined : '_blank'} rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  img: ({ src, alt }) => (
    <a href={typeof src === 'string' ? src : undefined} target="_blank" rel="noopener noreferrer nofollow">
      {alt || 'Picture'}
    </a>
  ),
  input: ({ checked }) => (
    <span className="task" role="img" aria-label={checked ? 'done' : 'to do'} data-done={checked} />
  )
}

/** Renders Markdown as elements: HTML is left out, and script links are disabled. */
const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div className="prose">
      <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS} skipHtml>
        {text.slice(0, MAX_LENGTH)}
      </ReactMarkdown>
      {text.length > MAX_LENGTH && <p className="soft">The rest of this long text is not shown here.</p>}
    </div>
  )
})

export default Markdown
