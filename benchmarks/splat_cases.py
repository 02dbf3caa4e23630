"""The ops of Gaussians beside their references, counted as in op_cases.py."""

from bm_splat_op import Scene
from op_cases import Kernel, Workload, backward

from dietnerf.ops import eval_sh, project_gaussians, rasterize_gaussians, structural_similarity
from dietnerf.ops.eval_sh import reference as eval_reference
from dietnerf.ops.project_gaussians import reference as project_reference
from dietnerf.ops.rasterize_gaussians import reference as rasterize_reference
from dietnerf.ops.structural_similarity import reference as similarity_reference

N_GAUSSIANS, WIDTH, HEIGHT = 11_000, 640, 360  # a training step's
SHRINK = 10  # of the image for a tiny workload


def gaussians_of(workload: Workload) -> Scene:
    """Gaussians of a training step, or few of them for a tiny workload."""
    is_tiny = workload.n_samples < N_GAUSSIANS
    shrink = SHRINK if is_tiny else 1
    n = N_GAUSSIANS // shrink**2
    return Scene(n, WIDTH // shrink, HEIGHT // shrink, str(workload.device))


def eval_sh_kernels(workload: Workload) -> list[Kernel]:
    scene = gaussians_of(workload)
    directions = (scene.means - scene.c2w[:, 3]).detach().requires_grad_()
    inputs = [scene.base, scene.rest, directions]
    n = len(directions)
    # A direction and 16 coefficients of a color in, a color out; backwards those in, gradients of
    # the inputs out. 16 polynomials, and 48 products and sums, of which backwards are three times
    # as many.
    return [
        Kernel(
            "eval_sh_forward",
            lambda: (eval_sh(3, *inputs),),
            lambda: (eval_reference(3, *inputs),),
            216 * n,
            170 * n,
        ),
        Kernel(
            "eval_sh_backward",
            backward(lambda: (eval_sh(3, *inputs),), inputs),
            backward(lambda: (eval_reference(3, *inputs),), inputs),
            420 * n,
            430 * n,
        ),
    ]


def project_gaussians_kernels(workload: Workload) -> list[Kernel]:
    scene = gaussians_of(workload)
    inputs = [scene.means, scene.log_scales, scene.quaternions]
    camera = (scene.c2w, scene.focal, scene.center, scene.width, scene.height, 0.05, 0.3, False)
    n = len(scene.means)
    # A Gaussian is 10 numbers in and 8 out; backwards those and 7 gradients in, 10 out. Rotation,
    # two products of 3x3 matrices and the ellipse; backwards twice as much, and those again.
    return [
        Kernel(
            "project_gaussians_forward",
            lambda: project_gaussians(*inputs, *camera)[:3],
            lambda: project_reference(*inputs, *camera)[:3],
            72 * n,
            200 * n,
        ),
        Kernel(
            "project_gaussians_backward",
            backward(lambda: project_gaussians(*inputs, *camera)[:3], inputs),
            backward(lambda: project_reference(*inputs, *camera)[:3], inputs),
            140 * n,
            600 * n,
        ),
    ]


def rasterize_gaussians_kernels(workload: Workload) -> list[Kernel]:
    scene = gaussians_of(workload)
    camera = (scene.c2w, scene.focal, scene.center, scene.width, scene.height, 0.05)
    centers, conics, depths, radii, _ = project_gaussians(
        scene.means, scene.log_scales, scene.quaternions, *camera
    )
    colors = eval_sh(3, scene.base, scene.rest, scene.means - scene.c2w[:, 3])
    learned = (centers, conics, depths, scene.logits.sigmoid(), colors)
    inputs = [values.detach().requires_grad_() for values in learned]
    args = (*inputs[:3], radii, *inputs[3:], scene.width, scene.height)
    n, n_pixels = len(radii), scene.width * scene.height
    # A Gaussian is 11 numbers in, backwards as many gradients out; a pixel 5 numbers out and 2
    # kept. What is blended in a pixel depends on the scene: 20 operations of 40 Gaussians here.
    return [
        Kernel(
            "rasterize_gaussians_forward",
            lambda: rasterize_gaussians(*args)[:3],
            lambda: rasterize_reference(*args, None)[:3],
            44 * n + 32 * n_pixels,
            800 * n_pixels,
        ),
        Kernel(
            "rasterize_gaussians_backward",
            backward(lambda: rasterize_gaussians(*args)[:3], inputs),
            backward(lambda: rasterize_reference(*args, None)[:3], inputs),
            88 * n + 32 * n_pixels,
            2400 * n_pixels,
        ),
    ]


def structural_similarity_kernels(workload: Workload) -> list[Kernel]:
    scene = gaussians_of(workload)
    image, photograph = (workload.rand(scene.height, scene.width, 3) for _ in range(2))
    args = (image.requires_grad_(), photograph)
    n = image.numel()
    # Two numbers in and 3 out, backwards those 5 in and one out; each of 4 maps, backwards of 3, is
    # blurred along two axes by 11 products and sums.
    return [
        Kernel(
            "structural_similarity_forward",
            lambda: (structural_similarity(*args),),
            lambda: similarity_reference(*args)[:1],
            20 * n,
            210 * n,
        ),
        Kernel(
            "structural_similarity_backward",
            backward(lambda: (structural_similarity(*args),), [image]),
            backward(lambda: similarity_reference(*args)[:1], [image]),
            24 * n,
            140 * n,
        ),
    ]
