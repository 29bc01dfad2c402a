//! What a machine boots from: an initramfs with one program, and an image with it and a kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where Debian's isolinux and syslinux-common put the boot loader.
const LOADER: [&str; 2] = ["/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"];

/// Where Debian's busybox-static puts a shell that needs nothing else.
const SHELL: &str = "/bin/busybox";

/// What the first process says when the program has ended, before its code.
pub(super) const END: &str = "emulate: the tests ended with ";

/// Writes an image on which `kernel` runs `program` with `variables` and `arguments`, and says where it is in `folder`.
pub(super) fn write(
    folder: &Path,
    kernel: &Path,
    program: &Path,
    (variables, arguments): (&str, &str),
) -> Result<PathBuf> {
    let (tree, image) = (folder.join("tree"), folder.join("boot.iso"));
    fs::create_dir_all(&tree).with_context(|| format!("create {}", tree.display()))?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, tree.join(name))
            .with_context(|| format!("copy {} (apt-get install isolinux syslinux-common)", from.display()))
    };
    for loader in LOADER.map(Path::new) {
        copy(loader, &loader.file_name().unwrap_or_default().to_string_lossy())?;
    }
    copy(kernel, "vmlinuz")?;
    let shell = fs::read(SHELL).with_context(|| format!("read {SHELL} (apt-get install busybox-static)"))?;
    let program = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let init = init(variables, arguments);
    fs::write(tree.join("initrd"), initramfs(&init, &shell, &program)).context("write the initramfs")?;
    fs::write(tree.join("isolinux.cfg"), CONFIGURATION).context("write the loader's configuration")?;
    let output = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot"])
        .args(["-boot-load-size", "4", "-boot-info-table", "-o"])
        .args([&image, &tree])
        .stdin(Stdio::null())
        .output()
        .context("start xorriso (apt-get install xorriso)")?;
    if !output.status.success() {
        bail!("xorriso wrote no image: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(image)
}

/// The clock of the machine is that of its instructions, which Linux need not measure; and it holds no secret.
const CONFIGURATION: &str = "default tests\nlabel tests\n kernel /vmlinuz\n append initrd=/initrd console=ttyS0 quiet \
                             tsc=reliable lpj=1000000 mitigations=off nokaslr no5lvl\n";

/// The first process. Were it the tests themselves, Linux would stop at their end and lose what they have just said. On
/// standard error they say, in the midst of results, which tiers this CPU has not.
fn init(variables: &str, arguments: &str) -> String {
    format!(
        "#!{SHELL} sh\n{SHELL} mkdir -p /proc /tmp\n{SHELL} mount -t proc proc /proc\n\
         {SHELL} mount -t devtmpfs dev /dev\n\
         {variables} /tests {arguments} 2>/dev/null\n\
         {SHELL} echo {END}$?\nexec {SHELL} sleep 600\n"
    )
}

/// An archive in cpio's format `newc` (Linux, early-userspace/buffer-format): a console, a shell, and what it runs.
fn initramfs(init: &str, shell: &[u8], program: &[u8]) -> Vec<u8> {
    const FOLDER: u32 = 0o040_755;
    const DEVICE: u32 = 0o020_600;
    const FILE: u32 = 0o100_755;
    /// Major and minor number of a console.
    const CONSOLE: [u32; 2] = [5, 1];
    let mut archive = Vec::new();
    append(&mut archive, "dev", (FOLDER, [0, 0]), &[]);
    append(&mut archive, "dev/console", (DEVICE, CONSOLE), &[]);
    append(&mut archive, "bin", (FOLDER, [0, 0]), &[]);
    append(&mut archive, SHELL.trim_start_matches('/'), (FILE, [0, 0]), shell);
    append(&mut archive, "tests", (FILE, [0, 0]), program);
    append(&mut archive, "init", (FILE, [0, 0]), init.as_bytes());
    append(&mut archive, "TRAILER!!!", (0, [0, 0]), &[]);
    archive
}

/// One entry: thirteen numbers, the name, the content, each padded to four bytes.
fn append(archive: &mut Vec<u8>, name: &str, (mode, device): (u32, [u32; 2]), content: &[u8]) {
    let (size, name_size) = (content.len(), name.len() + 1);
    let [major, minor] = device;
    let header = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}{name_size:08x}{:08x}",
        archive.len(),
        0,
        0,
        1,
        0,
        0,
        0,
        0
    );
    archive.extend(header.bytes().chain(name.bytes()).chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_all_that_the_first_process_needs() {
        let archive = initramfs(&init("CASES=1", "--quiet"), b"shell", b"program");
        let text = String::from_utf8_lossy(&archive);
        let parts = [
            "dev/console\0",
            "bin/busybox\0",
            "shell\0",
            "tests\0",
            "program\0",
            "CASES=1 /tests --quiet 2>",
            "TRAILER!!!\0",
        ];
        let places = parts.map(|part| text.find(part));
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?}");
        assert!(archive.len().is_multiple_of(4));
        // Seven bytes of content, in the seventh number of the fifth header.
        let header = text.match_indices("070701").nth(4).map(|(start, _)| &text[start + 6..][..104]);
        assert_eq!(header.map(|header| &header[6 * 8..7 * 8]), Some("00000007"));
    }
}
