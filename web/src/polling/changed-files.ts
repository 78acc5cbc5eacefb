/** Reads the change feed to find which files of a project have changed. */
import { isProblem } from '../errors.js'
import type { Project } from '../project.js'
import type { ChangeType, FeedAnswer } from '../wire.js'
import type { Polled } from './subscription.js'

/** The newest state of a file that changed. */
export interface DocumentChange {
  filePath: string
  lastModified: Date
  version: number
  changeType: ChangeType
}

/** The most paths that a request names; for more, all changes of the project are read and filtered by the client. */
const FILTERED_BY_GATEWAY = 20
/** The cursor of a project that does not exist, or no longer exists. */
const BEGINNING = ''

/** The newest change of every file, numbered in the order of arrival. */
export class ChangedFiles {
  serial = 0
  private readonly changes = new Map<string, { serial: number; change: DocumentChange }>()

  /** The changes after a serial number. */
  after(serial: number): DocumentChange[] {
    return [...this.changes.values()].filter((each) => each.serial > serial).map((each) => each.change)
  }

  /** Record new changes; after a reset, `changes` lists all existing files. Returns whether there was any news. */
  take(changes: DocumentChange[], reset: boolean): boolean {
    const before = this.serial
    if (reset) this.noteAbsent(new Set(changes.map((change) => change.filePath)))
    for (const change of changes) {
      const known = this.changes.get(change.filePath)?.change
      if (reset || known === undefined || known.version < change.version) this.note(change)
    }
    return this.serial > before
  }

  private noteAbsent(present: Set<string>): void {
    for (const { change } of [...this.changes.values()]) {
      if (present.has(change.filePath) || change.changeType === 'deleted') continue
      this.note({ ...change, lastModified: new Date(), changeType: 'deleted' })
    }
  }

  private note(change: DocumentChange): void {
    this.serial += 1
    this.changes.delete(change.filePath)
    this.changes.set(change.filePath, { serial: this.serial, change })
  }
}

/** Reads the feed from a cursor to its current end. Without news the response is a 304. */
export class ChangedFilesSource {
  private readonly files = new ChangedFiles()
  private readonly wanted: ReadonlySet<string> | null
  private readonly filter

  constructor(
    private readonly project: Project,
    paths: readonly string[] | null
  ) {
    this.wanted = paths && new Set(paths)
    const named = paths !== null && paths.length <= FILTERED_BY_GATEWAY ? { paths } : {}
    this.filter = { kinds: ['file'] as const, ...named }
  }

  async poll(cursor: string | null, signal: AbortSignal): Promise<Polled<ChangedFiles>> {
    const since = cursor || null
    try {
      const { value, backoffS } = await this.project.changes({ ...this.filter, since, tag: since, signal })
      if (value === null) return { value: this.files, changed: false, backoffS }
      const { changes, reset, end } = await this.readOn(value, signal)
      return { value: this.files, changed: this.files.take(changes, reset), cursor: end, backoffS }
    } catch (error) {
      if (!isProblem(error, 'project_not_found')) throw error
      return { value: this.files, changed: this.files.take([], true), cursor: BEGINNING }
    }
  }

  private async readOn(first: FeedAnswer, signal: AbortSignal) {
    let page = first
    let changes = this.changesOf(page)
    let reset = page.reset === true
    while (page.more) {
      const { value } = await this.project.changes({ ...this.filter, since: page.cursor, signal })
      if (value === null) break
      page = value
      if (page.reset) changes = []
      reset ||= page.reset === true
      changes.push(...this.changesOf(page))
    }
    return { changes, reset, end: page.cursor }
  }

  private changesOf({ changes }: FeedAnswer): DocumentChange[] {
    return changes.flatMap((entry) => {
      if (entry.kind !== 'file' || (this.wanted !== null && !this.wanted.has(entry.path))) return []
      const { path, last_modified, version, change_type } = entry
      return [{ filePath: path, lastModified: new Date(last_modified), version, changeType: change_type }]
    })
  }
}
