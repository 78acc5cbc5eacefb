import { useId, useState } from 'react'
import { PROJECT_NAME } from './address.js'
import { Icon } from './icon.js'

export interface HowProps {
  /** The task that is explained, as in `How to read a file`. */
  what: string
  /** A shell command, in which `$P` is the URL of the project. */
  curl: string
  /** TypeScript code that uses `project`. */
  ts: string
}

/** Shows how to do the same as a pane with curl and with the TypeScript client. */
export function How({ what, curl, ts }: HowProps) {
  const id = useId()
  const shell = `P=${location.origin}/api/projects/${encodeURIComponent(PROJECT_NAME)}\n${curl}`
  const code = `const project = new GatewayClient('${location.origin}').project('${PROJECT_NAME}')\n${ts}`
  return (
    <>
      <button type="button" className="quiet" popoverTarget={id} title={`How to ${what}, in code`}>
        <Icon name="code" />
        How
      </button>
      <div id={id} popover="auto" className="sheet how" role="dialog" aria-label={`How to ${what}`}>
        <div className="bar">
          <h2>How to {what}</h2>
          <button type="button" className="quiet" popoverTarget={id} popoverTargetAction="hide" aria-label="Close">
            <Icon name="close" />
          </button>
        </div>
        <Listing name="curl" text={shell} />
        <Listing name="TypeScript" text={code} />
      </div>
    </>
  )
}

function Listing({ name, text }: { name: string; text: string }) {
  const [isCopied, setCopied] = useState(false)
  const copy = () =>
    navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => undefined
    )
  return (
    <figure>
      <figcaption className="bar">
        <span>{name}</span>
        <button type="button" className="quiet" onClick={() => void copy()}>
          {isCopied ? 'Copied' : 'Copy'}
        </button>
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it */}
      <pre tabIndex={0}>{text}</pre>
    </figure>
  )
}

/** Escape a path for a URL within double quotes of a shell. */
export function urlPath(path: string): string {
  return path
    .split('/')
    .map((segment) => encodeURIComponent(segment).replaceAll('!', '%21'))
    .join('/')
}

/** A text as a TypeScript literal. */
export function literal(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}
