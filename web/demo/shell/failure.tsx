import { NoAnswer, ProblemAnswer } from '../../src/index.js'

/** An error as a sentence for the visitor. */
export function failureText(error: unknown): string {
  if (error instanceof NoAnswer) {
    return navigator.onLine
      ? 'The gateway cannot be reached. Your edits are kept, and sent when it is back.'
      : 'You are offline. Your edits are kept, and sent when you are back.'
  }
  if (error instanceof ProblemAnswer) {
    if (error.code === 'forbidden' || error.code === 'unauthenticated')
      return `You may not do this: ${error.problem.detail}`
    return `${error.problem.title}: ${error.problem.detail}`
  }
  return error instanceof Error ? error.message : String(error)
}

export function Failure({ error }: { error: unknown }) {
  if (error === null || error === undefined) return null
  return (
    <p role="alert" className="failure">
      {failureText(error)}
    </p>
  )
}
