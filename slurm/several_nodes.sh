#!/bin/bash
# One run on the GPUs of several nodes:
#   sbatch slurm/several_nodes.sh --config configs/simclr_cifar10.yaml
#SBATCH --job-name=lightbox
#SBATCH --nodes=4
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8      # one for each GPU
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@300     # 5 minutes before the end: save, and back to the queue
#SBATCH --requeue
#SBATCH --open-mode=append       # the same log after that
#SBATCH --output=slurm-%x-%j.out

export NCCL_DEBUG=WARN           # says why, should the nodes not find each other
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python cli.py fit --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "$@"
