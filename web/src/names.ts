/**
 * Validation and encoding of names in URLs. Names are checked before a request is sent: `fetch` resolves `.` and `..`,
 * so an unchecked path could leave its project. The gateway and the Python client have the same rules.
 */
import { type ProblemAnswer, problemFrom } from './errors.js'
import type { ProblemDetails } from './wire.js'

const PROJECT_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/
const PATH_BYTES = 1024
/** Invisible characters that affect how text is displayed. Joiners are allowed: some languages and emoji need them. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u
const JOINERS = /[\u200c\u200d]/g
const LONE_SURROGATE = /\p{Cs}/u

/** The URL path of a project. Throws ProblemAnswer `invalid_project`. */
export function projectPath(name: string): string {
  if (!PROJECT_ID.test(name)) {
    const rule = '1 to 128 characters of A-Z a-z 0-9 . _ ~ -, and not . or ..'
    throw refusal('invalid_project', 'Invalid project id', `${shown(name)} is not a project id: ${rule}`)
  }
  return `/api/projects/${name}`
}

/** Return a file path unchanged if it is valid. Throws ProblemAnswer `invalid_path`. */
export function checkedPath(path: string): string {
  const problem = pathProblem(path)
  if (problem !== null) throw problem
  return path
}

/** The problem with a file path; null if the path is valid. */
export function pathProblem(path: string): ProblemAnswer | null {
  const fault = pathFault(path)
  if (fault === null) return null
  return refusal('invalid_path', 'Invalid file path', `${shown(path)} is not a file path: ${fault}`)
}

/** Encode a file path for a URL. Throws ProblemAnswer `invalid_path`. */
export function encodedPath(path: string): string {
  return checkedPath(path).split('/').map(encodeURIComponent).join('/')
}

/** Encode the id of a session or a turn for a URL. Throws ProblemAnswer `invalid_parameter`. */
export function encodedId(id: string, name: 'session' | 'turn'): string {
  if (id === '' || id === '.' || id === '..' || id.includes('/') || LONE_SURROGATE.test(id)) {
    throw refusal('invalid_parameter', 'Invalid parameter', `${shown(id)} is not the id of a ${name}`)
  }
  return encodeURIComponent(id)
}

function pathFault(path: string): string | null {
  if (path === '') return 'it is empty'
  if (LONE_SURROGATE.test(path)) return 'it is not valid Unicode'
  const size = new TextEncoder().encode(path).length
  if (size > PATH_BYTES) return `it has ${size} bytes, more than ${PATH_BYTES}`
  const segment = path.split('/').find((each) => each === '' || each === '.' || each === '..')
  if (segment !== undefined) return `it has the segment ${shown(segment)}`
  if (UNSEEN.test(path.replace(JOINERS, ''))) return 'it has a control character'
  return path === path.normalize('NFC') ? null : 'it is not in Unicode normalisation form C'
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200))
}

function refusal(code: string, title: string, detail: string): ProblemAnswer {
  const details: ProblemDetails = { type: 'about:blank', title, status: 400, detail, code }
  return problemFrom(details)
}
