/** A store is made in a folder that systems have written into, and in no other: for every kind of store in a folder. */
import type { Test } from 'tap';

export interface FolderUnderTest {
  readonly writeFile: (name: string) => Promise<void>;
  readonly makeFolder: (name: string) => Promise<void>;
  /** Makes a store in the folder. */
  readonly create: () => Promise<void>;
}

const files = ['.DS_Store', '._photos', 'desktop.ini', 'Thumbs.db', '.directory', '.nfs000000000012ab', '.stignore'];
const folders = [
  ['.stfolder', '.stversions', 'System Volume Information', '$RECYCLE.BIN', '$Recycle.Bin', 'lost+found', '@eaDir', '#recycle'],
  ['.Trash-1000', '.Trashes', '.fseventsd', '.Spotlight-V100', '.snapshot', '.snapshots', '.sync', '_tmp'],
].flat();

export function emptyFolderSuite(t: Test, name: string, make: () => Promise<FolderUnderTest>): void {
  void t.test(`${name}: a store is made beside what systems leave in empty folders`, async () => {
    const folder = await make();
    for (const one of files) await folder.writeFile(one);
    for (const one of folders) await folder.makeFolder(one);
    await folder.create();
  });

  void t.test(`${name}: other files are in the way, and the first few are named`, async (t) => {
    for (const [names, shown] of [
      [['cat.jpg'], /other files \(cat\.jpg\)/],
      [['5', '3', '1', '2', '4'], /other files \(1, 2, 3 and 2 more\)/],
      [['DS_Store'], /\(DS_Store\)/],
      [['.stfolder2'], /\(\.stfolder2\)/],
    ] as const) {
      const folder = await make();
      for (const one of [...names, '.DS_Store']) await folder.writeFile(one);
      await t.rejects(folder.create(), { code: 'NOT_A_STORE', message: shown });
    }
  });
}
