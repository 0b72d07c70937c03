#!/usr/bin/env python
"""Compile the optional C++ kernel that makes SCConv faster on the CPU.

It is used from the next start on: float32, channels_last (ChannelsLastHook).
"""
import argparse

from mmdet_scconv.layers import kernels


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f'Built: {kernels.build()}')


if __name__ == '__main__':
    main()
