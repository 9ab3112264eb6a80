/* ops.c - which FUSE operations exist here. Each is one operation of the store; ops_*.c translate, by families.
 *
 * Left out on purpose, so that libfuse answers ENOSYS and the kernel stops asking:
 *  - flush: a write has been committed when write(2) returns; close(2) has nothing to wait for but the kernel's own
 *    dirty pages of mappings, which it writes out by itself.
 *  - fsync, fsyncdir: for the same reason all is durable on a majority already (the kernel writes out mappings first).
 *  - access: permissions are the kernel's, by default_permissions.
 *  - getlk, setlk, flock: locks are kept by the kernel, for this mount only; they do not reach other mounts (stage 1).
 *  - write_buf, bmap, ioctl, poll, retrieve: there is nothing of the kind. */
#include "mount/state.h"

const struct fuse_lowlevel_ops mount__ops = {
    .lookup = mount__op_lookup,
    .forget = mount__op_forget,
    .forget_multi = mount__op_forget_multi,
    .readlink = mount__op_readlink,
    .mknod = mount__op_mknod,
    .mkdir = mount__op_mkdir,
    .symlink = mount__op_symlink,
    .link = mount__op_link,
    .unlink = mount__op_unlink,
    .rmdir = mount__op_rmdir,
    .rename = mount__op_rename,
    .getattr = mount__op_getattr,
    .setattr = mount__op_setattr,
    .statfs = mount__op_statfs,
    .setxattr = mount__op_setxattr,
    .getxattr = mount__op_getxattr,
    .listxattr = mount__op_listxattr,
    .removexattr = mount__op_removexattr,
    .open = mount__op_open,
    .create = mount__op_create,
    .release = mount__op_release,
    .read = mount__op_read,
    .write = mount__op_write,
    .fallocate = mount__op_fallocate,
    .lseek = mount__op_lseek,
    .copy_file_range = mount__op_copy_file_range,
    .opendir = mount__op_opendir,
    .readdir = mount__op_readdir,
    .releasedir = mount__op_releasedir,
    .init = mount__op_init,
};
