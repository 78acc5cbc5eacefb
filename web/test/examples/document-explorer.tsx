import { useState } from 'react'
import { useDocumentPolling } from '../../src/react/index.js'
import { FileTree, projectId } from './surroundings.js'

// From here on the example is as applications were told to write it.
function DocumentExplorer() {
  const [documents, setDocuments] = useState<Document[]>([]);

  useDocumentPolling({
    projectId,
    enabled: true,
    onDocumentChange: (changes) => {
      // Refresh document list
      changes.forEach(change => {
        if (change.changeType === 'created') {
          // Add to list
        } else if (change.changeType === 'modified') {
          // Update in list
        } else if (change.changeType === 'deleted') {
          // Remove from list
        }
      });
    }
  });

  return <FileTree documents={documents} />;
}
// To here.

export { DocumentExplorer }
