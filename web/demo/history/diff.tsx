/** Renders a unified diff with colours. Its lines are shown as plain text. */
import { useMemo } from 'react'

type Kind = 'added' | 'removed' | 'same' | 'gap'

const MAX_LINES = 2_000

export function Diff({ text }: { text: string }) {
  const lines = useMemo(() => linesOf(text), [text])
  if (lines.length === 0) return <p className="soft">The text did not change.</p>
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <pre className="diff" tabIndex={0}>
      {lines.slice(0, MAX_LINES).map(({ kind, text }, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: lines have nothing else
        <Line key={index} kind={kind} text={text} />
      ))}
      {lines.length > MAX_LINES && (
        <span className="gap">
          and {lines.length - MAX_LINES} lines more{'\n'}
        </span>
      )}
    </pre>
  )
}

function Line({ kind, text }: { kind: Kind; text: string }) {
  if (kind === 'added') return <ins>{`${text}\n`}</ins>
  if (kind === 'removed') return <del>{`${text}\n`}</del>
  return <span className={kind}>{`${text}\n`}</span>
}

function linesOf(text: string): { kind: Kind; text: string }[] {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const first = lines.findIndex((line) => line.startsWith('@@'))
  if (first < 0) return []
  const shown = lines.slice(first + 1).filter((line) => !line.startsWith('\\')) // no newline at the end
  return shown.map((line) => (line.startsWith('@@') ? { kind: 'gap', text: '⋯' } : { kind: kindOf(line), text: line }))
}

function kindOf(line: string): Kind {
  if (line.startsWith('+')) return 'added'
  return line.startsWith('-') ? 'removed' : 'same'
}

/** A unified diff from no file to a text. */
export function diffOfNew(text: string): string {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.length === 0 ? '' : ['@@', ...lines.map((line) => `+${line}`)].join('\n')
}

/** The number of added and of removed lines. */
export function sizeOfDiff(text: string): { added: number; removed: number } {
  const lines = linesOf(text)
  const count = (kind: Kind) => lines.filter((line) => line.kind === kind).length
  return { added: count('added'), removed: count('removed') }
}
