// Loads an XDP program that passes every packet and attaches it to an interface, as a guest that filters or counts
// would; it stays for as long as the process does that is left behind. Part of the guest's image.
// usage: xdp INTERFACE native|generic
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words) {
  if (count != 3) return 2;
  struct bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT},
  };
  union bpf_attr load;
  memset(&load, 0, sizeof load);
  load.prog_type = BPF_PROG_TYPE_XDP;
  load.insns = (unsigned long)pass;
  load.insn_cnt = sizeof pass / sizeof *pass;
  load.license = (unsigned long)"GPL";
  int program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  if (program < 0) {
    perror("loading");
    return 1;
  }
  union bpf_attr link;
  memset(&link, 0, sizeof link);
  link.link_create.prog_fd = program;
  link.link_create.target_ifindex = if_nametoindex(words[1]);
  link.link_create.attach_type = BPF_XDP;
  link.link_create.flags = strcmp(words[2], "native") ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
  if (syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof link) < 0) {
    perror("attaching");
    return 1;
  }
  if (fork() == 0) {
    setsid();
    close(0);
    close(1);
    close(2);
    for (;;) pause();
  }
  return 0;
}
