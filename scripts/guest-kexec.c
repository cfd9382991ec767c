// Starts another kernel from the running one, as kexec-tools or kdump do, without asking the devices. Part of the guest's image.
// usage: kexec KERNEL INITRD COMMAND-LINE
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words) {
  if (count != 4) return 2;
  int kernel = open(words[1], O_RDONLY | O_CLOEXEC);
  int initrd = open(words[2], O_RDONLY | O_CLOEXEC);
  if (kernel < 0 || initrd < 0) {
    perror("opening");
    return 1;
  }
  if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(words[3]) + 1, words[3], 0ul) < 0) {
    perror("loading");
    return 1;
  }
  syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
  perror("starting");
  return 1;
}
