#!/bin/bash
# The same run with five seeds, each on one GPU; then `python cli.py results runs/EXPERIMENT/version_*`:
#   sbatch slurm/seeds.sh --config configs/simclr_cifar10.yaml
#SBATCH --job-name=seeds
#SBATCH --array=0-4              # the seeds; 0-19%5 runs five of twenty at a time
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@300     # 5 minutes before the end: save, and back to the queue
#SBATCH --requeue
#SBATCH --open-mode=append       # the same log after that
#SBATCH --output=slurm-%x-%A_%a.out

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python cli.py fit --trainer.devices 1 --seed_everything "$SLURM_ARRAY_TASK_ID" "$@"
