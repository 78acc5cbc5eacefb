import { memo } from 'react'
import ReactMarkdown, { type Components } from 'react-markdown'
import remarkGfm from 'remark-gfm'

/** More would keep the page busy. */
const MAX_LENGTH = 200_000
const PLUGINS = [remarkGfm]

/** Nothing is loaded from elsewhere: a picture is shown as a link to it. */
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

/** Markdown, as elements: HTML in it is left out, and links to scripts lead nowhere. */
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
