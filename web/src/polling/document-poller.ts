import type { StopReason } from '../policy.js'
import type { Project } from '../project.js'
import { type ChangedFiles, ChangedFilesSource, type DocumentChange } from './changed-files.js'
import { type PollingManager, pollingManager } from './manager.js'
import { joinFeed } from './project-feed.js'
import type { Subscription } from './subscription.js'
import type { PollerOptions } from './turn-poller.js'

/** The options of a document poller. */
export interface DocumentPollerOptions extends PollerOptions {
  /** A cursor, to get only later changes. */
  since?: string | null | undefined
  /** Whether, without `since`, every existing file is first reported as created; default true. */
  initial?: boolean | undefined
}

/** Calls back with the changes of a project's files. Pollers that follow the same files share their requests. */
export class DocumentPoller {
  /** The key of the poll in the manager. */
  readonly key: string
  private readonly manager: PollingManager
  private readonly subscription: Subscription<ChangedFiles>
  private readonly leaveFeed: () => void
  private seen = 0
  /**
   * What to do with the files that exist at the start: report them as created, or skip them. Null once that is done.
   */
  private beginning: 'told' | 'passed over' | null

  /**
   * @param paths the files to follow; null: all files of the project.
   * @param onChanges called once per answer with news, with the newest state of each changed file.
   */
  constructor(
    project: Project,
    paths: readonly string[] | null,
    private readonly onChanges: (changes: DocumentChange[]) => unknown,
    options: DocumentPollerOptions = {}
  ) {
    const { manager = pollingManager, transport = 'poll', since = null, initial = true, interval } = options
    this.manager = manager
    this.beginning = since !== null ? null : initial ? 'told' : 'passed over'
    const wanted = paths === null ? null : [...new Set(paths)].sort()
    this.key = `files ${project.url} ${JSON.stringify([since, wanted])}`
    const known = manager.latest(this.key) as ChangedFiles | undefined
    if (known !== undefined && this.beginning === 'passed over') this.passOver(known)
    const source = new ChangedFilesSource(project, wanted)
    this.subscription = manager.register<ChangedFiles>(
      this.key,
      ({ cursor, signal }) => source.poll(cursor, signal),
      interval,
      { ...options, onResult: (files) => this.give(files), cursor: since }
    )
    const files = wanted && new Set(wanted)
    this.leaveFeed = joinFeed(
      manager,
      project,
      transport,
      this.key,
      (entry) => entry.kind === 'file' && (files === null || files.has(entry.path))
    )
  }

  /** The last error; null again after the next success. */
  get error(): Error | null {
    return this.subscription.error
  }

  /** Why the poller no longer polls; null if it does. */
  get stopped(): StopReason | null {
    return this.subscription.stopped
  }

  /** Suspend or resume the poller. */
  enable(enabled: boolean): void {
    this.subscription.enable(enabled)
  }

  /** Poll immediately; changes are reported to `onChanges`. */
  async refresh(): Promise<void> {
    await this.manager.refresh(this.key)
  }

  /** Stop polling: the request in flight is aborted, and no callback is called. */
  stop(): void {
    this.leaveFeed()
    this.subscription.unregister()
  }

  private async give(files: ChangedFiles): Promise<void> {
    if (this.beginning === 'passed over') return this.passOver(files)
    const news = files.after(this.seen)
    this.seen = files.serial
    const changes = this.beginning === 'told' ? asCreated(news) : news
    if (news.length > 0) this.beginning = null
    if (changes.length > 0) await this.onChanges(changes)
  }

  private passOver(files: ChangedFiles): void {
    this.seen = files.serial
    this.beginning = null
  }
}

/** Report existing files as created to a client that has no files yet. */
function asCreated(changes: DocumentChange[]): DocumentChange[] {
  return changes
    .filter((change) => change.changeType !== 'deleted')
    .map((change) => ({ ...change, changeType: 'created' }))
}
