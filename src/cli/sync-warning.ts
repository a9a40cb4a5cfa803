/** Says what it means that a sync client carries the folder of a store, where one does. */
import { syncClientOf, syncWarning } from '../access/sync-client.js';
import { tell } from '../terminal/terminal.js';

export async function warnOfSync(location: string): Promise<void> {
  const client = await syncClientOf(location);
  if (client !== undefined) tell(syncWarning(client));
}
