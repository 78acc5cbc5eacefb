import type { StopReason } from '../policy.js'
import type { Project } from '../project.js'
import { type ChangedFiles, ChangedFilesSource, type DocumentChange } from './changed-files.js'
import { type PollingManager, pollingManager } from './manager.js'
import { joinFeed } from './project-feed.js'
import type { Subscription } from './subscription.js'
import type { PollerOptions } from './turn-poller.js'

export interface DocumentPollerOptions extends PollerOptions {
  /** A cursor, to hear only of what comes after it. */
  since?: string | null | undefined
  /** Whether, without `since`, every file that exists is first told as created; true unless said. */
  initial?: boolean | undefined
}

/** Follows which of a project's files change. */
export class DocumentPoller {
  /** What the polls are registered as. */
  readonly key: string
  private readonly manager: PollingManager
  private readonly subscription: Subscription<ChangedFiles>
  private readonly leaveFeed: () => void
  private seen = 0
  /** Whether what exists is still to be told as created, or to be passed over. */
  private beginning: 'told' | 'passed over' | null

  /**
   * @param paths the files to follow; null: all of the project.
   * @param onChanges called once for each answer that brings something: with the newest state of each changed file.
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

  /** The last error, until something succeeds. */
  get error(): Error | null {
    return this.subscription.error
  }

  /** Why it is not polled any more; null if it is. */
  get stopped(): StopReason | null {
    return this.subscription.stopped
  }

  /** Hold still, or go on. */
  enable(enabled: boolean): void {
    this.subscription.enable(enabled)
  }

  /** Ask now; what changed is told as always. */
  async refresh(): Promise<void> {
    await this.manager.refresh(this.key)
  }

  /** End it: its request is aborted, and nothing is called back. */
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

/** What exists, for one who has nothing yet. */
function asCreated(changes: DocumentChange[]): DocumentChange[] {
  return changes
    .filter((change) => change.changeType !== 'deleted')
    .map((change) => ({ ...change, changeType: 'created' }))
}
